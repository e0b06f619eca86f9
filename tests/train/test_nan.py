"""Losses that are NaN end a training, or the steps are left out."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx
from trainings import CNN, config

from train.data import Dataset, Split
from train.errors import Diverged
from train.loop import fit
from train.steps import batch_indices

COUNT, BATCH, STEPS = 64, 8, 24


def poisoned(rng, is_nan=True):
    """A dataset in which the pixels of training image 13 are NaN."""
    images = rng.uniform(size=(COUNT, 28, 28, 1)).astype(np.float32)
    labels = np.arange(COUNT, dtype=np.int32) % 4
    test = Split(images[:8].copy(), labels[:8])
    if is_nan:
        images[13] = np.nan
    return Dataset("noise", Split(images, labels), test, tuple("abcd"))


def steps_with(image):
    """The steps, counted from 1, whose batch holds this image."""
    batches = [batch_indices(COUNT, BATCH, 0, step) for step in range(STEPS)]
    return [1 + at for at, batch in enumerate(batches) if image in batch]


def setup(**changes):
    base = config(task="plain", **changes)
    return dataclasses.replace(base, steps=STEPS, batch_size=BATCH, eval_every=STEPS)


def test_the_error_names_the_first_such_step(rng):
    first = steps_with(13)[0]
    assert first > 1
    reported = []
    with pytest.raises(Diverged, match=rf"is NaN or infinite in step {first}\b"):
        fit(setup(), CNN, poisoned(rng), reported.append)
    assert all(row["step"] < first for row in reported)
    assert all(np.isfinite(row["loss"]) for row in reported)


def test_skipped_steps_change_nothing(rng):
    (run,) = fit(setup(on_nan="skip"), CNN, poisoned(rng))
    skipped = [row["step"] for row in run.rows if row["skipped"]]
    assert sum(row["skipped"] for row in run.rows) == len(steps_with(13)) == 3
    assert skipped == steps_with(13)  # a row for each step
    assert all(np.isnan(row["loss"]) == bool(row["skipped"]) for row in run.rows)
    weights = jax.tree.leaves(nnx.state(run.model))
    assert all(np.isfinite(leaf).all() for leaf in weights)


def test_without_nan_both_choices_train_alike(rng):
    data = poisoned(rng, is_nan=False)
    stop, skip = (
        fit(setup(on_nan=choice), CNN, data)[0] for choice in ("stop", "skip")
    )
    losses = [[row["loss"] for row in run.rows] for run in (stop, skip)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    assert sum(row["skipped"] for row in skip.rows) == 0


def test_one_of_several_seeds_is_enough(rng):
    with pytest.raises(Diverged, match="NaN or infinite"):
        fit(setup(), CNN, poisoned(rng), seeds=(0, 1))

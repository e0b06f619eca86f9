"""Data that stay on the device, and data that are read for each step."""

import dataclasses

import numpy as np
import pytest
from trainings import config, few, without_timings

from train.data import Split, load
from train.feed import Resident, Streamed, is_large
from train.loop import fit
from train.specs import ModelSpec
from train.steps import batch_indices

pytest.importorskip("grain")


@pytest.fixture(scope="module")
def digits():
    return few(load("digits"), 50)


@pytest.fixture
def mapped(digits, tmp_path):
    """The same digits, mapped from the disk."""
    path = tmp_path / "images.bin"
    path.write_bytes(digits.train.images.tobytes())
    images = np.memmap(path, np.uint8, "r", shape=digits.train.images.shape)
    return digits._replace(train=Split(images, digits.train.labels))


@pytest.mark.parametrize("rows", [1, 3])
def test_every_step_takes_the_images_of_its_number(digits, mapped, rows):
    seeds, settings = (0, 5), config(steps=8, batch_size=4)
    resident = Resident(settings, digits, seeds, rows)
    streamed = Streamed(settings, mapped, seeds, 1)
    taken = {0: [], 5: []}
    for step, last in ((1, 5), (5, 8)):
        for work in resident.until(step, last):
            assert work.chosen.shape == (2, rows, 4)
            assert len(work.data.labels) == 50
            count = work.last - step if rows > 1 else 1
            for of_seed, seed in zip(work.chosen, seeds, strict=True):
                taken[seed] += [*of_seed][: min(count, rows)]
            step = work.last
    for seed in seeds:
        expected = [batch_indices(50, 4, seed, at) for at in range(1, 8)]
        np.testing.assert_array_equal(taken[seed], expected)
    for step, work in enumerate(streamed.until(1, 8), start=1):
        assert work.last == step + 1
        for index, seed in enumerate(seeds):
            at = batch_indices(50, 4, seed, step)
            for x, all_x in zip(work.data, digits.train, strict=True):
                np.testing.assert_array_equal(x[work.chosen[index, 0]], all_x[at])


def test_a_training_on_mapped_data_is_the_training_on_the_device(digits, mapped):
    settings = config(steps=6, batch_size=8, eval_every=3)
    settings = dataclasses.replace(settings, parameters=40_000)
    runs = [fit(settings, ModelSpec("cnn"), data)[0] for data in (digits, mapped)]
    rows = [without_timings(run.rows) for run in runs]
    for one, other in zip(*rows, strict=True):
        assert one.keys() == other.keys()
        for key in one.keys() - {"model"}:
            np.testing.assert_allclose(one[key], other[key], rtol=1e-4, atol=1e-4)


def test_what_is_large(digits, mapped, monkeypatch):
    assert is_large(mapped.train.images)
    assert is_large(mapped.train.images[10:])  # a part of mapped images is mapped
    assert not is_large(digits.train.images)
    monkeypatch.setattr("train.feed.LARGEST", digits.train.images.nbytes - 1)
    assert is_large(digits.train.images)

"""Data that stay on the device, and data that are read for each step."""

import dataclasses

import numpy as np
import pytest
from trainings import config, few, without_timings

from train.data import Split, load
from train.devices import mesh_for
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
def test_programs_take_the_images_of_their_steps(digits, rows):
    """Two seeds, four steps after the first, in programs of one or up to three."""
    settings = config(steps=8, batch_size=4)
    feed = Resident(settings, digits, (0, 5), mesh_for(settings), rows)
    works = list(feed.until(1, 5))
    assert [work.last for work in works] == ([2, 3, 4, 5] if rows == 1 else [4, 5])
    firsts = [1, *(work.last for work in works)]
    for work, first in zip(works, firsts, strict=False):
        assert work.chosen.shape == (2, rows, 4)
        for of_seed, seed in zip(work.chosen, (0, 5), strict=True):
            taken = of_seed[: work.last - first]
            expected = [
                batch_indices(50, 4, seed, at) for at in range(first, work.last)
            ]
            np.testing.assert_array_equal(taken, expected)


def test_images_are_read_for_the_steps_that_take_them(digits, mapped):
    """From the step on where a training goes on."""
    settings = config(steps=8, batch_size=4, devices=1)
    feed = Streamed(settings, mapped, (0, 5), mesh_for(settings), 3)
    works = list(feed.until(3, 8))
    assert [work.last for work in works] == [4, 5, 6, 7, 8]
    for step, work in enumerate(works, start=3):
        for (chosen,), seed in zip(work.chosen, (0, 5), strict=True):
            at = batch_indices(50, 4, seed, step)
            np.testing.assert_array_equal(
                work.data.images[chosen], digits.train.images[at]
            )
            np.testing.assert_array_equal(
                work.data.labels[chosen], digits.train.labels[at]
            )


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

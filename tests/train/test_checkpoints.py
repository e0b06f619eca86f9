"""The states of trainings on disk, and trainings that continue from them."""

import dataclasses

import numpy as np
import pytest
from trainings import SETUP, ST_CNN, begun, few, without_timings

from train.checkpoints import Checkpoint
from train.data import load
from train.errors import ConfigError
from train.loop import fit


@pytest.fixture(scope="module")
def digits():
    return few(load("digits"), 60)


class Stopped(Exception):
    pass


def test_a_training_that_was_stopped_continues_with_the_same_bits(digits, tmp_path):
    (whole,) = fit(SETUP, ST_CNN, digits)
    rows = []

    def stop(row):
        if row["step"] == 5:
            raise Stopped
        rows.append(row)

    folder = begun(tmp_path)
    checkpoint = Checkpoint(folder, "state")
    with pytest.raises(Stopped):
        fit(SETUP, ST_CNN, digits, stop, checkpoint=checkpoint, every=0.0)
    again = []
    checkpoint = Checkpoint(folder, "state")
    (resumed,) = fit(SETUP, ST_CNN, digits, again.append, checkpoint=checkpoint)
    assert again[:4] == rows[:4]  # the rows up to the saved state are reported again
    assert without_timings(resumed.rows) == without_timings(whole.rows)
    seconds = [row["seconds"] for row in resumed.rows]
    assert seconds == sorted(seconds)
    np.testing.assert_array_equal(resumed.predictions, whole.predictions)
    for a, b in zip(resumed.snapshots, whole.snapshots, strict=True):
        np.testing.assert_array_equal(a, b)
    # a third time there is nothing left to do
    (done,) = fit(SETUP, ST_CNN, digits, checkpoint=checkpoint)
    assert done.rows == resumed.rows


def test_a_checkpoint_of_another_training_is_refused(digits, tmp_path):
    folder = begun(tmp_path)
    checkpoint = Checkpoint(folder, "state")
    fit(SETUP, ST_CNN, digits, checkpoint=checkpoint)
    other = dataclasses.replace(SETUP, steps=12)
    with pytest.raises(ConfigError, match="steps is 9, not 12"):
        fit(other, ST_CNN, digits, checkpoint=checkpoint)


def test_a_corrupt_checkpoint_is_passed_over(tmp_path):
    folder = begun(tmp_path)
    checkpoint = Checkpoint(folder, "state")
    for step in (1, 2):
        noise = np.random.default_rng(step).normal(size=100_000)
        arrays = {"x": noise, "none": np.zeros((2, 0))}
        checkpoint.save(step, arrays, {"step": step})
    arrays, record = Checkpoint(folder, "state").load()
    assert record == {"step": 2}
    assert arrays["none"].shape == (2, 0)
    latest = tmp_path / "state" / "2.state"
    whole = latest.read_bytes()
    noise = np.random.default_rng(1).normal(size=100_000)
    for at in (0, 40, len(whole) // 2, len(whole) - 1):
        damaged = bytearray(whole)
        damaged[at] ^= 1
        latest.write_bytes(damaged)
        with pytest.warns(UserWarning, match=r"2\.state is corrupt \(its digest"):
            arrays, record = Checkpoint(folder, "state").load()
        assert record == {"step": 1}
        np.testing.assert_array_equal(arrays["x"], noise)
    assert Checkpoint(folder, "new").load() is None


def test_two_states_are_kept(tmp_path):
    folder = begun(tmp_path)
    checkpoint, other = (Checkpoint(folder, name) for name in ("state", "state-2"))
    other.save(1, {}, {})
    for step in (5, 50, 500):
        checkpoint.save(step, {}, {"step": step})
    assert {path.name for path in (tmp_path / "state").iterdir()} == {
        "50.state",
        "500.state",
    }
    checkpoint.remove()
    assert folder.files == ("state-2/1.state",)
    assert not (tmp_path / "state").exists()

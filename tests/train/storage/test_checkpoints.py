"""The states of trainings on disk, and trainings that continue from them."""

import dataclasses
import itertools
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from trainings import FCN, SETUP, ST_CNN, begun, few, without_timings

from train.data import load
from train.errors import ConfigError, OutputError
from train.loop import fit
from train.storage.checkpoints import Checkpoint
from train.storage.folder import MARKER, Folder


@pytest.fixture(scope="module")
def digits():
    return few(load("digits"), 60)


class Stopped(Exception):
    pass


@pytest.mark.parametrize("spec", [FCN, pytest.param(ST_CNN, marks=pytest.mark.slow)])
def test_a_training_that_was_stopped_continues_with_the_same_bits(
    digits, tmp_path, spec
):
    (whole,) = fit(SETUP, spec, digits)
    rows = []

    def stop(row):
        if row["step"] == 5:
            raise Stopped
        rows.append(row)

    folder = begun(tmp_path)
    checkpoint = Checkpoint(folder, "state")
    always = dataclasses.replace(SETUP, checkpoint_minutes=0)
    with pytest.raises(Stopped):
        fit(always, spec, digits, stop, checkpoint=checkpoint)
    again = []
    checkpoint = Checkpoint(folder, "state")
    (resumed,) = fit(SETUP, spec, digits, again.append, checkpoint=checkpoint)
    assert again[:4] == rows[:4]  # the rows up to the saved state are reported again
    assert without_timings(resumed.rows) == without_timings(whole.rows)
    seconds = [row["seconds"] for row in resumed.rows]
    assert seconds == sorted(seconds)
    np.testing.assert_array_equal(resumed.predictions, whole.predictions)
    for a, b in zip(resumed.snapshots, whole.snapshots, strict=True):
        np.testing.assert_array_equal(a, b)
    # a third time there is nothing left to do
    (done,) = fit(SETUP, spec, digits, checkpoint=checkpoint)
    assert done.rows == resumed.rows


def test_a_checkpoint_of_another_training_is_refused(digits, tmp_path):
    folder = begun(tmp_path)
    checkpoint = Checkpoint(folder, "state")
    fit(SETUP, FCN, digits, checkpoint=checkpoint)
    other = dataclasses.replace(SETUP, steps=12)
    with pytest.raises(ConfigError, match="steps is 9, not 12"):
        fit(other, FCN, digits, checkpoint=checkpoint)


def noise(step):
    return np.random.default_rng(step).normal(size=100_000)


def saved(folder, *steps):
    """A checkpoint with states of these steps."""
    checkpoint = Checkpoint(folder, "state")
    for step in steps:
        arrays = {"x": noise(step), "none": np.zeros((2, 0), np.int32)}
        checkpoint.save(step, arrays, {"step": step})
    return checkpoint


def step_of(loaded):
    """The step of a state, whose arrays are those that were saved."""
    arrays, record = loaded
    none = arrays["none"]
    assert (none.shape, none.dtype) == ((2, 0), np.int32)
    np.testing.assert_array_equal(arrays["x"], noise(record["step"]))
    return record["step"]


def flip(path, at):
    """Flip a bit in a file; return what the file held."""
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[at] ^= 1
    path.write_bytes(damaged)
    return whole


def largest(folder):
    """The file with the noise."""
    return max(folder.rglob("*"), key=lambda path: path.stat().st_size)


def files(folder):
    """The files in a folder, but for its marker, and its empty folders."""
    return {
        path.relative_to(folder.path).as_posix()
        for path in folder.path.rglob("*")
        if path.name != MARKER and not (path.is_dir() and any(path.iterdir()))
    }


def test_a_corrupt_checkpoint_is_passed_over(tmp_path):
    folder = begun(tmp_path)
    checkpoint = saved(folder, 1, 2)
    assert step_of(checkpoint.load()) == 2
    latest = tmp_path / "state" / "2"
    data = largest(latest)
    size = data.stat().st_size
    for at in (size // 3, size // 2):
        whole = flip(data, at)
        with pytest.warns(UserWarning, match="the digests of its arrays do not match"):
            assert step_of(Checkpoint(folder, "state").load()) == 1
        data.write_bytes(whole)
    for path in filter(Path.is_file, [*latest.rglob("*")]):
        for at in (0, path.stat().st_size // 2, path.stat().st_size - 1):
            whole = flip(path, at)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                step = step_of(checkpoint.load())  # 2 if the bit does not matter
            assert step == (1 if caught else 2)
            path.write_bytes(whole)
    assert Checkpoint(folder, "new").load() is None


def test_a_corrupt_record_is_passed_over(tmp_path):
    checkpoint = saved(begun(tmp_path), 1)
    record = tmp_path / "state" / "1" / "record" / "metadata"
    text = record.read_text()
    assert text.count('step\\": 1') == 1
    record.write_text(text.replace('step\\": 1', 'step\\": 3'))
    with pytest.warns(UserWarning, match="the digest of its record does not match"):
        assert checkpoint.load() is None


def test_two_states_are_kept(tmp_path):
    folder = begun(tmp_path)
    other = Checkpoint(folder, "state-2")
    other.save(1, {"x": np.ones(1)}, {})
    rest = files(folder)
    checkpoint = saved(folder, 5, 50, 500)
    assert {path.name for path in (tmp_path / "state").iterdir()} == {"50", "500"}
    assert checkpoint.steps == [500, 50]
    assert files(folder) == {*folder.files}
    checkpoint.remove()
    assert files(folder) == {*folder.files} == rest
    assert not (tmp_path / "state").exists()


def test_a_state_that_was_passed_over_is_replaced(tmp_path):
    folder = begun(tmp_path)
    saved(folder, 1, 4)
    (tmp_path / "state" / "4" / "record" / "metadata").write_text("{}")
    with pytest.warns(UserWarning, match="is corrupt"):
        assert step_of(Checkpoint(folder, "state").load()) == 1
    checkpoint = saved(folder, 3)
    assert checkpoint.steps == [3, 1]
    assert step_of(checkpoint.load()) == 3
    assert files(folder) == {*folder.files}


@pytest.mark.parametrize("count", [0, 1, 5, None], ids=str)
def test_a_save_that_was_stopped_leaves_only_listed_files(
    tmp_path, monkeypatch, count, recwarn
):
    """Stopped after some files of the state, or (None) while Orbax writes."""
    folder = begun(tmp_path / "out")
    saved(folder, 1)
    copied, copyfile = itertools.count(), shutil.copyfile

    def copy(source, path):
        if next(copied) == count:
            Path(path).write_bytes(b"half")
            raise KeyboardInterrupt
        copyfile(source, path)

    def write(self, path, **_):
        (path.parent / f"{path.name}.orbax-checkpoint-tmp").mkdir()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("train.storage.folder.shutil.copyfile", copy)
        if count is None:
            patch.setattr("orbax.checkpoint.Checkpointer.save", write)
        with pytest.raises(KeyboardInterrupt):
            saved(folder, 2)
    Checkpoint(folder, "state").check()
    left = {name for name in files(folder) if (folder.path / name).is_file()}
    assert left <= {*folder.files}
    assert step_of(Checkpoint(folder, "state").load()) == 1
    assert not [w for w in recwarn if "corrupt" in str(w.message)]
    copy_of_it = shutil.copytree(folder.path, tmp_path / "copy")
    overwritten = Folder(copy_of_it, "run")
    overwritten.begin({})
    assert not files(overwritten)
    resumed = saved(folder, 2)
    assert resumed.steps == [2, 1]
    assert step_of(resumed.load()) == 2
    assert files(folder) == {*folder.files}


def test_files_of_someone_else_stay(tmp_path):
    folder = begun(tmp_path)
    checkpoint = saved(folder, 1, 2)
    checkpoint.check()
    for name in ("weights.bin", "2/weights.bin", "2/arrays/weights.bin", "7/x"):
        mine = tmp_path / "state" / name
        mine.parent.mkdir(exist_ok=True)
        mine.write_text("mine")
    with pytest.raises(OutputError, match="was not written by this program"):
        checkpoint.check()
    assert step_of(checkpoint.load()) == 2
    saved(folder, 3, 4).remove()
    assert {name.removeprefix("state/") for name in files(folder)} == {
        "weights.bin",
        "2/weights.bin",
        "2/arrays/weights.bin",
        "7/x",
    }
    assert folder.files == ()

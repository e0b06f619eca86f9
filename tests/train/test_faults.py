"""Trainings that are killed, disturbed or out of space lose nothing that was saved."""

import json
import random
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest
from conftest import ROOT, made_once
from faults import (
    OFTEN,
    RUN,
    SMALL,
    command,
    environment,
    results_of,
    rows_of,
    run,
    saved_step,
    start,
    stop,
    tmpfs,
    wait_for_rows,
)

from train.__main__ import main
from train.storage.weights import load_model

pytestmark = pytest.mark.faults
KILLS = 20


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The same run, not disturbed."""

    def make(out):
        done = run([*RUN, "--out", str(out)])
        assert done.returncode == 0, done.stderr

    return made_once(tmp_path_factory, "whole", make)


def test_a_run_that_is_killed_at_random_moments_loses_nothing(tmp_path):
    """Each time it continues from the last row or the one before, to the same bits."""
    long = [*RUN, "--steps", "600"]
    assert run([*long, "--out", str(tmp_path / "whole")]).returncode == 0
    out, moments = tmp_path / "out", random.Random(22)
    at = 0
    for _ in range(KILLS):
        process = start([*long, "--out", str(out), *(["--resume"] if at else [])])
        # few rows further, so that the run is not over before the last kill
        wait_for_rows(process, out, at // 10 + moments.randrange(2))
        time.sleep(moments.random() * 0.3)
        stop(process)
        assert process.returncode == -signal.SIGKILL
        rows = rows_of(out)
        before, at = at, saved_step(out)
        assert at >= before
        if len(rows) > 1:  # a state is saved after each row
            assert at >= rows[-2]["step"]
    done = run([*long, "--out", str(out), "--resume"])
    assert done.returncode == 0, done.stderr
    assert results_of(out) == results_of(tmp_path / "whole")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def test_a_run_that_is_asked_to_stop_saves_its_state(whole, tmp_path, number):
    """Also one that is shorter than the time between two states."""
    out = tmp_path / "out"
    rarely = [*RUN, "--checkpoint-minutes", "60", "--out", str(out)]
    process = start(rarely)
    wait_for_rows(process, out, 5)
    _, error = stop(process, number)
    assert process.returncode == 128 + number
    assert "the state is saved. Continue with: python -m train run" in error
    assert "--resume" in error
    assert "Traceback" not in error
    assert saved_step(out) == rows_of(out)[-1]["step"]
    assert run([*rarely, "--resume"]).returncode == 0
    assert results_of(out) == results_of(whole)


def test_the_second_of_two_runs_on_one_folder_is_refused(whole, tmp_path):
    out = tmp_path / "out"
    process = start([*RUN, "--out", str(out)])
    wait_for_rows(process, out, 1)
    process.send_signal(signal.SIGSTOP)  # it waits, and holds the folder
    for flag, message in (
        ([], "holds a run that was stopped"),
        (["--overwrite"], "another process is writing to"),
        (["--resume"], "another process is writing to"),
    ):
        second = run([*RUN, "--out", str(out), *flag])
        assert second.returncode == 1
        assert message in second.stderr
        assert "Traceback" not in second.stderr
    process.send_signal(signal.SIGCONT)
    process.communicate(timeout=120)
    assert process.returncode == 0
    assert results_of(out) == results_of(whole)


DIVERGING = [*RUN, "--learning-rate", "1e30"]


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path, capsys):
    out = tmp_path / "out"
    assert main([*DIVERGING, "--out", str(out)]) == 1
    error = capsys.readouterr().err
    assert "NaN or infinite" in error
    assert "--learning-rate" in error
    assert "Traceback" not in error
    assert not (out / "results.json").exists()
    for line in (out / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)


def test_steps_that_are_not_finite_can_be_skipped(tmp_path, capsys):
    out = tmp_path / "out"
    skipping = [*DIVERGING, "--on-nan", "skip", "--steps", "40", "--out", str(out)]
    assert main(skipping) == 0
    assert "steps were skipped" in " ".join(capsys.readouterr().out.split())
    rows = rows_of(out)
    assert sum(row["skipped"] for row in rows) > 0
    for line in (out / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)


def test_folders_that_cannot_be_written(tmp_path, capsys):
    sealed = tmp_path / "sealed"
    sealed.mkdir()
    sealed.chmod(0o500)
    for words in (RUN, TABLE):
        done = run([*words, "--out", str(sealed / "out")], unprivileged=True)
        assert done.returncode == 1
        assert "error: cannot write to" in done.stderr
        assert "Permission denied" in done.stderr
        assert "Traceback" not in done.stderr
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("dangling", "loop", "x" * 300):
        assert main([*RUN, "--out", str(tmp_path / name)]) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert "Traceback" not in error


@pytest.mark.parametrize("size", ["600k", "4m"])
def test_a_disk_that_is_full_loses_no_state(whole, tmp_path, size):
    """Full while states, weights or figures are written; then there is space again."""
    if (words := tmpfs(size)) is None:
        pytest.skip("no user namespace with a tmpfs of its own")
    disk, after = tmp_path / "disk", tmp_path / "after"
    disk.mkdir()
    # what lies on the small file system is copied out before it vanishes
    script = (
        f"{' '.join(command([*RUN, '--out', str(disk / 'out')]))}; status=$?; "
        f"cp -r {disk} {after}; exit $status"
    )
    done = subprocess.run(
        [*words, "sh", "-c", script],
        cwd=ROOT,
        env=environment() | {"SMALL_DISK": str(disk)},
        capture_output=True,
        text=True,
    )
    assert done.returncode in (0, 1)
    assert "Traceback" not in done.stderr
    if done.returncode:
        assert "error: " in done.stderr
        assert "No space left" in done.stderr
    out = after / "out"
    if not out.exists():
        return
    finished = run([*RUN, "--out", str(out), "--resume"])
    if done.returncode == 0:
        assert "holds the results of an earlier run" in finished.stderr
    else:
        assert finished.returncode == 0, finished.stderr
    assert results_of(out) == results_of(whole)
    assert (out / "figure.png").exists()
    assert (out / "curves.png").exists()


TABLE = ["table", *SMALL, *OFTEN, "--steps", "60", "--columns", "r"]
TABLE += ["--rows", "fcn", "st_fcn-affine", "--seeds", "2"]


def test_a_table_that_is_killed_goes_on(tmp_path):
    def cells(out):
        # a file that is being written has a name that begins with a dot
        return {
            path.relative_to(out).as_posix(): path.read_bytes()
            for path in sorted(out.glob("*/seed-*/[!.]*.safetensors"))
        }

    whole, out = tmp_path / "whole", tmp_path / "out"
    assert run([*TABLE, "--out", str(whole)]).returncode == 0
    kills = 0
    for count in (1, 3):
        process = start([*TABLE, "--out", str(out)])
        while process.poll() is None and len(cells(out)) < 2 * count:
            time.sleep(0.02)
        time.sleep(0.2)
        finished = cells(out)
        stop(process)
        kills += process.returncode == -signal.SIGKILL
        assert cells(out).items() >= finished.items()
    assert run([*TABLE, "--out", str(out)]).returncode == 0
    assert kills >= 1
    assert len(cells(out)) == 8
    assert cells(out) == cells(whole)
    assert len(json.loads((out / "report.json").read_text())) == 4


# files that were damaged, in this process


def damages(content, count):
    """A bit flipped, or the end missing, at places all over a file."""
    for at in np.linspace(0, len(content) - 1, count).astype(int):
        changed = bytearray(content)
        changed[at] ^= 4
        yield bytes(changed)
        yield content[:at]


def test_damaged_results_are_errors_of_one_line(whole, tmp_path, capsys):
    out = shutil.copytree(whole, tmp_path / "out")
    path = out / "results.json"
    content = path.read_bytes()
    odd = [b"", b"[]", b"3", b"null", b'{"models": 3}', b'{"config": {}}', b"\xff"]
    for damage in [*damages(content, 30), *odd]:
        path.write_bytes(damage)
        status = main(["compare", str(out)])
        printed = capsys.readouterr()
        assert status in (0, 1)  # a changed digit of the version is no error
        assert printed.err.count("\n") == status
        assert printed.err.startswith("error: " if status else "")


def test_damaged_tables_are_errors_of_one_line(tmp_path, capsys):
    out = tmp_path / "out"
    small = ["--steps", "4", "--rows", "st_fcn-affine", "--seeds", "1"]
    assert main([*TABLE, *small, "--out", str(out)]) == 0
    capsys.readouterr()
    for name in ("seed-0.json", "seed-0.npz"):
        path = out / "r-st_fcn-affine" / name
        content = path.read_bytes()
        for damage in [*damages(content, 20), b"", b"[]", b"{}", b"null"]:
            path.write_bytes(damage)
            status = main(["report", str(out)])
            error = capsys.readouterr().err
            assert status in (0, 1)
            assert error.count("\n") == status
            assert error.startswith("error: " if status else "")
        path.write_bytes(content)
    assert main(["report", str(out)]) == 0


def test_damaged_weights_are_never_used(whole, tmp_path):
    folder = shutil.copytree(whole / "models" / "st_fcn-affine", tmp_path / "model")
    from train.errors import ResultsError

    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        name = path.name.removesuffix(".json")
        for damage in damages(content, 12):
            path.write_bytes(damage)
            with pytest.raises(ResultsError):
                load_model(folder / name)
        path.write_bytes(content)
        load_model(folder / name)


def test_other_data_in_the_same_file_are_not_resumed(tmp_path):
    """The refused command changes nothing."""

    def save(seed):
        rng = np.random.default_rng(seed)
        images = rng.integers(0, 256, (60, 28, 28)).astype(np.uint8)
        labels = np.arange(60) % 3
        arrays = {"x_train": images, "y_train": labels}
        np.savez(tmp_path / "a.npz", **arrays, x_test=images[:9], y_test=labels[:9])

    def files():
        return {p: p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}

    out = tmp_path / "out"
    words = ["run", "plain", *SMALL, *OFTEN, "--models", "fcn", "--steps", "400"]
    words += ["--dataset", str(tmp_path / "a.npz"), "--out", str(out)]
    save(0)
    process = start(words)
    wait_for_rows(process, out, 3)
    stop(process)
    before = files()
    save(1)
    done = run([*words, "--resume"])
    assert done.returncode == 1
    assert "data_sha256 is" in done.stderr
    assert files() == before
    save(0)
    assert run([*words, "--resume"]).returncode == 0

"""Trainings in several processes on this machine, and on eight virtual devices.

They give the numbers of one process, lose nothing when one of them is killed, and end
with an error that names the process when they do not fit together.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import ROOT, made_once
from faults import SMALL, digits_file, environment, results_of, rows_of

from train.devices import SEVERAL
from train.processes import join

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(not SEVERAL, reason="jax 0.7 trains on one device"),
]

SETTINGS = [*SMALL, "--batch-size", "48", "--parameters", "70000"]
SETTINGS += ["--checkpoint-minutes", "0", "--learning-rate", "1e-3"]
RUN = ["run", "rts-fcn", *SETTINGS, "--steps", "40", "--eval-every", "20"]
BOTH = ["run", "rts", "--models", "cnn", "st_cnn-affine", *SETTINGS]
BOTH += ["--steps", "50", "--eval-every", "25"]
MINUTE = 60


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start(arguments, *, devices=1, prelude="pass", **variables):
    """Begin a command in a process of its own, with so many virtual devices."""
    flags = f" --xla_force_host_platform_device_count={devices}"
    variables["XLA_FLAGS"] = environment()["XLA_FLAGS"] + flags
    program = f"import sys; {prelude}; from train.__main__ import main; "
    program += "sys.exit(main(sys.argv[1:]))"
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        env=environment() | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_all(arguments, count, others=(), **options):
    """Begin a command in several processes; ``others`` are those of the last one."""
    address = f"127.0.0.1:{free_port()}"
    meet = ["--coordinator", address, "--processes", str(count), "--process"]
    own = [[]] * (count - 1) + [others]
    return [
        start([*arguments, *meet, str(i), *own[i]], **options) for i in range(count)
    ]


def ended(processes, timeout=300):
    """The exit statuses and what was printed to stderr."""
    errors = [process.communicate(timeout=timeout)[1] for process in processes]
    return [process.returncode for process in processes], errors


def wait_for_step(out, step):
    """Wait until a run has written a row of this step."""
    since = time.monotonic()
    while not any(row["step"] >= step for row in rows_of(out)):
        assert time.monotonic() - since < 200
        time.sleep(0.05)


def alone(tmp_path_factory, arguments):
    """The folder of this run by one process on one device."""

    def make(out):
        statuses, errors = ended([start([*arguments, "--out", str(out)])])
        assert statuses == [0], errors

    return made_once(tmp_path_factory, f"alone-{arguments[1]}", make)


@pytest.fixture(scope="module")
def of_one(tmp_path_factory):
    return alone(tmp_path_factory, RUN)


@pytest.fixture(scope="module")
def both_of_one(tmp_path_factory):
    return alone(tmp_path_factory, BOTH)


def check_same(out, other):
    """Losses to float tolerance, and the errors on the 500 test images.

    One image may differ: one whose two best classes are equal but for rounding.
    """
    (rows, _, results), (expected_rows, _, expected) = map(results_of, (out, other))
    assert [r["step"] for r in rows] == [r["step"] for r in expected_rows]
    for row, of_one in zip(rows, expected_rows, strict=True):
        np.testing.assert_allclose(row["loss"], of_one["loss"], rtol=2e-4)
    for result, of_one in zip(results, expected, strict=True):
        assert abs(result["test_error"] - of_one["test_error"]) < 0.3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "devices", "named"),
    [
        (1, 8, "8 devices (CPU), "),
        (2, 2, "4 devices (CPU) of 2 processes, "),
        (4, 1, "4 devices (CPU) of 4 processes, "),
    ],
)
def test_they_train_as_one_process_does(both_of_one, tmp_path, count, devices, named):
    """The losses of 50 steps and the test errors, of a CNN and an ST-CNN."""
    arguments = [*BOTH, "--out", str(tmp_path / "out")]
    if count == 1:
        processes = [start(arguments, devices=devices)]
    else:
        processes = start_all(arguments, count, devices=devices)
    statuses, errors = ended(processes)
    assert statuses == [0] * count, errors
    check_same(tmp_path / "out", both_of_one)
    assert named in (tmp_path / "out" / "results.json").read_text()


def test_the_last_process_is_killed(of_one, tmp_path):
    """The others end within a minute, and three go on, to the same numbers."""
    out = tmp_path / "out"
    # a process counts as lost after 8 seconds instead of 20
    prelude = "import train.processes as p; p.HEARTBEAT = 8"
    processes = start_all([*RUN, "--out", str(out)], 4, prelude=prelude)
    wait_for_step(out, 10)
    processes[-1].kill()
    since = time.monotonic()
    statuses, errors = ended(processes, timeout=MINUTE)
    assert time.monotonic() - since < MINUTE
    assert statuses[-1] == -signal.SIGKILL
    assert all(status != 0 for status in statuses)
    for index, error in enumerate(errors):
        assert re.search(f"error: process {index} of 4: .*with --resume, in any", error)
    statuses, errors = ended(start_all([*RUN, "--out", str(out), "--resume"], 3))
    assert statuses == [0, 0, 0], errors
    check_same(out, of_one)


def test_the_first_process_is_killed(of_one, tmp_path):
    """The other ends within a minute, and one alone goes on, on two devices."""
    out = tmp_path / "out"
    processes = start_all([*RUN, "--out", str(out)], 2)
    wait_for_step(out, 10)
    processes[0].kill()
    statuses, errors = ended(processes, timeout=MINUTE)
    assert all(status != 0 for status in statuses)
    assert re.search("error: process 1 of 2: .*with --resume, in any", errors[1])
    statuses, errors = ended([start([*RUN, "--out", str(out), "--resume"], devices=2)])
    assert statuses == [0], errors
    check_same(out, of_one)


def test_all_stop_when_one_is_asked_to(tmp_path):
    """After the same step, and resumed they give the bits of a run without a stop."""
    whole, out = tmp_path / "whole", tmp_path / "out"
    statuses, errors = ended(start_all([*RUN, "--out", str(whole)], 2))
    assert statuses == [0, 0], errors
    rarely = [*RUN, "--out", str(out), "--checkpoint-minutes", "60"]
    processes = start_all(rarely, 2)
    wait_for_step(out, 10)
    processes[1].terminate()
    statuses, errors = ended(processes, timeout=MINUTE)
    assert statuses == [128 + signal.SIGTERM] * 2
    assert all("the state is saved. Continue with" in error for error in errors)
    statuses, errors = ended(start_all([*rarely, "--resume"], 2))
    assert statuses == [0, 0], errors
    assert results_of(out) == results_of(whole)


@pytest.mark.parametrize(
    ("others", "words"),
    [
        (["--batch-size", "96"], "batch_size is 96 in process 1, 48 in process 0"),
        (["--validation", "0.2"], "validation is 0.2 in process 1, 0.08"),
        (["--dataset", "digits"], "dataset is digits in process 1, "),
        (
            ["--dataset", "absent.npz"],
            "process 1 has ended: --dataset absent.npz: no such file",
        ),
    ],
    ids=["batch", "split", "dataset", "no data"],
)
def test_processes_that_do_not_agree(tmp_path, others, words):
    """They say so, each by its name, and nothing is written."""
    out = tmp_path / "out"
    processes = start_all([*RUN, "--out", str(out)], 2, others)
    statuses, errors = ended(processes, timeout=MINUTE)
    assert statuses == [1, 1], errors
    assert words in errors[0]
    for index, error in enumerate(errors):
        assert f"error: process {index} of 2: " in error
    assert not out.exists()


def test_files_of_one_name_with_other_images(tmp_path):
    """Such as those on the disks of two machines."""
    processes = []
    meet = ["--coordinator", f"127.0.0.1:{free_port()}", "--processes", "2"]
    for index in range(2):
        folder = tmp_path / str(index)
        folder.mkdir()
        arrays = {**np.load(digits_file())}
        arrays["x_train"][0] += index
        np.savez(folder / "own.npz", **arrays)
        own = ["--dataset", "own.npz", "--process", str(index), "--out", "out"]
        prelude = f"import os; os.chdir({str(folder)!r})"
        processes.append(start([*RUN, *meet, *own], prelude=prelude))
    statuses, errors = ended(processes, timeout=MINUTE)
    assert statuses == [1, 1], errors
    assert "do not agree: data_sha256 is " in errors[0]


def test_a_folder_that_the_first_process_may_not_use(tmp_path):
    (tmp_path / "letter.txt").write_text("of someone else")
    processes = start_all([*RUN, "--out", str(tmp_path)], 2)
    statuses, errors = ended(processes, timeout=MINUTE)
    assert statuses == [1, 1]
    assert "process 0 has ended" in errors[1]
    assert "was changed" in errors[0]
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize("index", [0, 1])
def test_nobody_comes(tmp_path, index):
    """The wait is shortened from 45 seconds to 4."""
    address = f"127.0.0.1:{free_port()}"
    meet = ["--coordinator", address, "--processes", "2", "--process", str(index)]
    prelude = "import train.processes as p; p.WAIT = 4"
    process = start([*RUN, "--out", str(tmp_path / "out"), *meet], prelude=prelude)
    (status,), (error,) = ended([process], timeout=MINUTE)
    assert status == 1
    who = "nobody answers at" if index else "not all others came to"
    assert f"error: process {index} of 2: {who} {address}" in error
    assert not (tmp_path / "out").exists()


def test_devices_have_too_little_memory(tmp_path):
    """XLA asks the system for more than it gives; the processes end within a minute."""
    prelude = "import resource as r; r.setrlimit(r.RLIMIT_AS, (12 << 30, 12 << 30))"
    arguments = ["run", "rts-cnn", "--dataset", digits_file(), "--steps", "1"]
    arguments += ["--batch-size", "100000", "--out", str(tmp_path / "out")]
    since = time.monotonic()
    statuses, errors = ended(start_all(arguments, 2, prelude=prelude), timeout=MINUTE)
    assert time.monotonic() - since < MINUTE
    assert all(status != 0 for status in statuses)
    words = "process [01] of 2: a step of .* needs more memory .* --accumulate"
    assert re.search(f"error: {words}", "".join(errors)), errors


@pytest.mark.slow
def test_srun_is_known_by_its_environment(of_one, tmp_path):
    """By the variables that SLURM sets; there is no SLURM here."""
    out = tmp_path / "out"
    job = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_NODELIST": "127.0.0.1"}
    job["SLURM_NTASKS"] = "2"
    processes = [
        start(
            [*RUN, "--out", str(out)],
            **job,
            SLURM_PROCID=str(index),
            SLURM_LOCALID=str(index),
        )
        for index in range(2)
    ]
    statuses, errors = ended(processes)
    assert statuses == [0, 0], errors
    check_same(out, of_one)


def test_cloud_tpu_is_known_by_its_environment(monkeypatch):
    """jax is asked to find the others; there is no TPU here."""
    import jax

    from train.configs import Training

    asked = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *a, **k: asked.append(a))
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "host-0")
    join(Training())
    assert not asked
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "host-0,host-1")
    join(Training())
    assert asked == [(None, None, None)]

"""Runs of ``python -m train`` in processes that are stopped, starved or disturbed."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
from conftest import ROOT

from train.data import load
from train.storage.checkpoints import Checkpoint
from train.storage.folder import Folder


def digits_file():
    """Scikit-learn's digits in a file: faster to read than the package to import."""
    path = ROOT / ".cache" / "digits.npz"
    if not path.exists():
        digits = load("digits")
        parts = {"train": digits.train, "test": digits.test}
        arrays = {f"x_{name}": part.images for name, part in parts.items()}
        arrays |= {f"y_{name}": part.labels for name, part in parts.items()}
        path.parent.mkdir(exist_ok=True)
        partial = path.with_name(f"{os.getpid()}-{path.name}")
        np.savez(partial, **arrays)
        partial.replace(path)
    return str(path)


SMALL = ["--dataset", digits_file(), "--batch-size", "8", "--parameters", "120000"]
# a state after every row: much is saved, and much can be lost
OFTEN = ["--eval-every", "10", "--checkpoint-minutes", "0"]
RUN = ["run", "rts-st_fcn-affine", *SMALL, *OFTEN, "--steps", "200"]

# root is not refused anything, unless it gives that right away
UNPRIVILEGED = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


def environment():
    """Like the tests', with programs compiled once."""
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax"))
    return {
        **os.environ,
        "MPLBACKEND": "agg",
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
        "STN_JAX_CPU": "off",
        "PYTHONUNBUFFERED": "1",
    }


def command(arguments, *, unprivileged=False):
    before = UNPRIVILEGED if unprivileged and os.geteuid() == 0 else []
    return [*before, sys.executable, "-m", "train", *arguments]


def run(arguments, *, unprivileged=False, timeout=300):
    """Carry out a command to its end."""
    return subprocess.run(
        command(arguments, unprivileged=unprivileged),
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def start(arguments):
    """Begin a command in a process of its own."""
    return subprocess.Popen(
        command(arguments),
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def stop(process, number=signal.SIGKILL):
    """Send a signal; return what the process has printed."""
    process.send_signal(number)
    return process.communicate(timeout=120)


def wait_for_rows(process, out, count):
    """Wait until a run has written so many rows of metrics."""
    while process.poll() is None and len(rows_of(out)) < count:
        time.sleep(0.02)


def rows_of(out):
    """The complete rows of a run's metrics."""
    path = out / "metrics.jsonl"
    if not path.exists():
        return []
    *lines, _ = path.read_text().split("\n")
    return [json.loads(line) for line in lines]


def saved_step(out, model="st_fcn-affine"):
    """The step of the latest complete state, 0 without one."""
    if not out.exists() or Folder(out, "run").marker() is None:
        return 0
    found = Checkpoint(Folder(out, "run"), f"checkpoints/{model}").load()
    return found[1]["rows"][-1]["step"] if found else 0


def results_of(out):
    """What a run has ended with, but for times: rows, weights and errors."""
    timings = ("seconds", "images_per_second")
    rows = [{k: v for k, v in r.items() if k not in timings} for r in rows_of(out)]
    weights = {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*.safetensors"))
    }
    document = json.loads((out / "results.json").read_text())
    results = [
        {k: v for k, v in m.items() if k != "seconds"} for m in document["models"]
    ]
    return rows, weights, results


def tmpfs(size):
    """The words before a command that give it a small file system, or None.

    The file system lies at the path that the environment variable SMALL_DISK names.
    """
    if shutil.which("unshare") is None:
        return None
    script = f'mount -t tmpfs -o size={size} tmpfs "$SMALL_DISK" && exec "$@"'
    words = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "-"]
    probe = subprocess.run(
        [*words, "true"], env={**os.environ, "SMALL_DISK": "/mnt"}, capture_output=True
    )
    return words if probe.returncode == 0 else None

"""What a result depends on, besides settings and data."""

from __future__ import annotations

import datetime
import os
import platform
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

import stn_jax
from stn_jax.cpu import PLAIN, used

from ..devices import used_devices


def circumstances(devices: int | None = None) -> dict[str, Any]:
    """What runs now: the command, date, devices, sampler, commit and versions."""
    packages = ("jax", "jaxlib", "flax", "optax", "numpy")
    return {
        "command": shlex.join(["python", "-m", "train", *sys.argv[1:]]),
        "date": datetime.date.today().isoformat(),
        "device": device(devices),
        "sampler": sampler(),
        "commit": commit(),
        "versions": {
            "stn_jax": stn_jax.__version__,
            "python": platform.python_version(),
            **{package: version(package) for package in packages},
        },
    }


def commit() -> str | None:
    """The checkout's commit, with "+" if files differ from it; None without one."""
    root = Path(__file__).parents[2]
    git = ["git", "-C", str(root)]
    try:
        top, head, changes = (
            subprocess.run(
                [*git, *command], capture_output=True, text=True, check=True
            ).stdout.strip()
            for command in (
                ["rev-parse", "--show-toplevel"],
                ["rev-parse", "HEAD"],
                ["status", "--porcelain", "--untracked-files=no"],
            )
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    if Path(top).resolve() != root.resolve():
        return None  # of another project, which this one is copied into
    return f"{head}+" if changes else head


def device(count: int | None = None) -> str:
    """The devices that a training uses, and the number of usable CPU cores.

    A CPU that is one device is not named twice.
    """
    found = used_devices(count)
    usable = getattr(os, "sched_getaffinity", None)  # excludes cores denied to us
    number = len(usable(0)) if usable else os.cpu_count()
    cores = f"{number} CPU core{'s' if number != 1 else ''}"
    if found[0].platform == "cpu" and len(found) == 1:
        return cores
    kind = "CPU" if found[0].platform == "cpu" else found[0].device_kind
    kinds = f"{len(found)} devices ({kind})" if len(found) > 1 else kind
    if jax.process_count() > 1:
        kinds += f" of {jax.process_count()} processes"
    return f"{kinds}, {cores}"


def sampler() -> str:
    """What samples images: plain JAX, or the compiled CPU kernel and its digest.

    Their results differ in the last bits.
    """
    return used() if jax.default_backend() == "cpu" else PLAIN

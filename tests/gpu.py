"""The tests of values, gradients, precision and determinism on a GPU: make test-gpu.

    PYTHONPATH=.:tests python tests/gpu.py [--cpu] [OPTIONS OF PYTEST]

They run with the machine's own jax. Without a GPU the command refuses, except with
``--cpu``, which tries the command. No test may be skipped: each compares with an
independent result.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from benchmarks import machine

COMMAND = "tests/gpu.py"
NEEDS = ("jax", "numpy", "scipy", "flax", "chex", "pytest", "hypothesis", "filelock")
FILES = (
    "tests/grids",
    "tests/fitting",
    *(
        f"tests/sampling/test_{name}.py"
        for name in (
            *("api", "kernels", "padding", "splines", "dense", "separable"),
            *("primitive", "hostile", "sampler", "precision", "determinism"),
        )
    ),
    *(
        f"tests/test_{name}.py"
        for name in ("functions", "warping", "modules", "coordinates")
    ),
)
# by another process, since tests/conftest.py configures jax before it starts
CHECK = f"""
from benchmarks.machine import require_gpu
require_gpu({COMMAND!r}, "; --cpu tries the command without one")
"""
WORKERS = ("-n", "auto", "--maxprocesses", "8")


class Skips:
    """A plugin of pytest that collects what was skipped."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def pytest_runtest_logreport(self, report) -> None:
        """A test, or its setup."""
        if report.skipped and not hasattr(report, "wasxfail"):
            self.names.append(report.nodeid)

    def pytest_collectreport(self, report) -> None:
        """A whole file."""
        if report.skipped:
            self.names.append(report.nodeid)


def main(arguments: list[str]) -> int:
    """Check the machine and run the tests; 1 if one failed or was skipped."""
    is_cpu = "--cpu" in arguments
    options = [option for option in arguments if option != "--cpu"]
    machine.require_packages(COMMAND, NEEDS)
    os.chdir(Path(__file__).parents[1])
    if not is_cpu and (code := subprocess.call([sys.executable, "-c", CHECK])):
        return code
    # several processes share the GPU
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import pytest

    workers = WORKERS if machine.is_installed("xdist") else ()
    skips = Skips()
    code = pytest.main(
        ["-q", "-m", "not slow and not faults", *workers, *options, *FILES], [skips]
    )
    if skips.names:
        print(f"{len(skips.names)} skipped, which may not be: {skips.names}")
    return int(code) or int(bool(skips.names))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

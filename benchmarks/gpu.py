"""The benchmarks on a GPU, with the machine's own jax and PyTorch, in limited time.

    make bench-gpu             # or: python -m benchmarks.gpu
    python -m benchmarks.gpu --tiny --out runs/tiny.json --page runs/tiny.md

It measures the sampler, the grids, a module and training steps beside PyTorch, and the
deterministic programs beside the ordinary ones. The measurements and their page are
written after each row. When the time is up, it lists the rows that are left out.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from . import machine

START = time.monotonic()
COMMAND = "python -m benchmarks.gpu"

# what the benchmarks, the library and the training program import
NEEDS = ("jax", "numpy", "flax", "optax", "tyro", "rich", "safetensors", "PIL")
NEEDS += ("filelock",)


def main(arguments: list[str] | None = None) -> int:
    """Check the machine, measure, and write; 1 if a row failed."""
    asked = _parser().parse_args(arguments)
    without = "; --no-pytorch leaves PyTorch out"
    needs = NEEDS if asked.no_pytorch else (*NEEDS, "torch")
    advice = "" if machine.is_installed("torch") else without
    machine.require_packages(COMMAND, needs, advice)
    if not asked.tiny:
        machine.require_gpu(COMMAND, "; --tiny tries small images on a CPU")
        if not asked.no_pytorch:
            machine.require_cuda_of_torch(COMMAND, without)
    return _measure(asked)


def _measure(asked: argparse.Namespace) -> int:
    # these import the packages that were checked
    from . import budget, gpu_rows, malloc, pages, report
    from .timing import copy_bandwidth

    is_kept = malloc.configure("kept")
    bandwidth = copy_bandwidth(16 if asked.tiny else 256)
    document = report.document([], report.command("benchmarks.gpu"), bandwidth)
    document["memory"] = "kept" if is_kept else "default"
    record = budget.Record(document, asked.out, asked.page)
    plan = gpu_rows.plan(
        gpu_rows.rows(asked.tiny),
        ("dense",) if asked.no_pytorch else ("PyTorch", "dense"),
        rounds=3 if asked.tiny else 6,
        seconds=0.0 if asked.tiny else 0.6,
    )
    with budget.stop_at(START + 60 * asked.minutes, record):
        is_complete = budget.measure_all(plan, record)
    pages.show(pages.table(document["rows"], bandwidth))
    print(budget.described(record))
    return int(not is_complete)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=COMMAND,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    docs = Path("docs")
    for option, default, text in (
        ("--minutes", 8.5, "stop after so many, start and compilation included"),
        ("--out", docs / "results" / "benchmarks-gpu.json", "the measurements, JSON"),
        ("--page", docs / "benchmarks-gpu.md", "the same as a page of the docs"),
    ):
        kind, text = type(default), f"{text} (default: {default})"
        parser.add_argument(option, type=kind, default=default, help=text)
    for option, text in (
        ("--no-pytorch", "do not compare with PyTorch"),
        ("--tiny", "small images, also on a CPU, to try the command"),
    ):
        parser.add_argument(option, action="store_true", help=text)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())

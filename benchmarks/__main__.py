"""The command line of the benchmarks."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.progress import track

from . import malloc, report, sampling, training
from .timing import copy_bandwidth

MODULES = {
    "PyTorch": "torch",
    "map_coordinates": "jax",
    "dm_pix": "dm_pix",
    "Keras": "keras",
    "kornia": "kornia",
}


@dataclass(frozen=True)
class Options:
    """Time stn_jax beside its peers, in turn, and print the ratios."""

    peers: tuple[str, ...] = ("PyTorch",)
    """Whom to compare with; "all": everyone who is installed, on what more than PyTorch
    have, the sampling."""
    only: str = ""
    """A regular expression: the rows to measure, such as "28x28.* both"."""
    rounds: int = 20
    """How often each is called."""
    seconds: float = 3.0
    """No more rounds once each has had so long."""
    memory: malloc.Memory = "kept"
    """What becomes of the memory that programs give back, where glibc is: kept and
    handed out again; fresh from the kernel each time, from 1 MB on; or as glibc has it
    by default, which is either, by luck."""
    out: Path = Path("runs/bench.json")
    """Where to write what was measured."""
    markdown: Path | None = None
    """Where to write it as a page, besides."""


def main(options: Options) -> None:
    """Measure, print, write."""
    is_settled = malloc.settle(options.memory)
    everyone = options.peers == ("all",)
    asked = sampling.PEERS if everyone else options.peers
    peers = tuple(peer for peer in asked if _is_installed(peer, optional=everyone))
    bandwidth = copy_bandwidth()
    rows = []
    everything = [*sampling.plan(), *([] if everyone else training.plan())]
    plan = [row for row in everything if re.search(options.only, str(row))]
    for row in track(plan, "measuring"):
        rows.append(row.measure(peers, options.rounds, options.seconds))
    report.show(report.table(rows, bandwidth))
    command = shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])
    document = report.document(rows, bandwidth, command)
    document["memory"] = options.memory if is_settled else "default"
    report.write(options.out, json.dumps(document) + "\n")
    if options.markdown:
        report.write(options.markdown, report.page(document))
    print(f"measurements: {options.out}")


def _is_installed(peer: str, optional: bool) -> bool:
    if peer not in MODULES:
        raise SystemExit(f"--peers must be of {', '.join(MODULES)}; got {peer!r}")
    try:
        importlib.import_module(MODULES[peer])
    except ImportError as error:
        if not optional:
            raise SystemExit(
                f"{peer} is not installed: pip install .[bench]"
            ) from error
        print(f"{peer} is not installed: left out")
        return False
    return True


if __name__ == "__main__":
    main(tyro.cli(Options))

"""The command line of the benchmarks."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.progress import track

from . import malloc, pages, report, sampling, training
from .rows import measure
from .timing import copy_bandwidth

MODULES = {
    "PyTorch": "torch",
    "map_coordinates": "jax",
    "dm_pix": "dm_pix",
    "Keras": "keras",
    "kornia": "kornia",
    "dense": "jax",  # our own sampler by matrix products
}


@dataclass(frozen=True)
class Options:
    """Time stn_jax in turn with other libraries, and print the ratios."""

    peers: tuple[str, ...] = ("PyTorch",)
    """Libraries to compare with. "all": every installed one, without training steps,
    which only PyTorch has. "dense": stn_jax with implementation="dense", for images of
    up to 64 x 64 pixels."""
    only: str = ""
    """Regular expression that selects the rows to measure, such as "28x28.* both"."""
    rounds: int = 20
    """Timed calls of each program, at most."""
    seconds: float = 3.0
    """Stop after this many seconds per program, but not before 3 rounds."""
    memory: malloc.Memory = "kept"
    """How glibc reuses freed memory. kept: the process keeps and reuses it; fresh:
    blocks of 1 MB and more come from the operating system each time; default: glibc
    decides, and the timings depend on what ran before."""
    out: Path = Path("runs/bench.json")
    """File for the measurements, JSON."""
    markdown: Path | None = None
    """File for the same as a page of the docs, if any."""


def main(options: Options) -> None:
    """Measure the selected rows, print them and write them."""
    is_configured = malloc.configure(options.memory)
    is_all = options.peers == ("all",)
    asked = sampling.PEERS if is_all else options.peers
    peers = tuple(peer for peer in asked if _is_installed(peer, optional=is_all))
    bandwidth = copy_bandwidth()
    rows = []
    every_row = [*sampling.plan(), *([] if is_all else training.plan())]
    plan = [row for row in every_row if re.search(options.only, str(row))]
    for row in track(plan, "measuring"):
        measured = measure(row, peers, rounds=options.rounds, seconds=options.seconds)
        rows.append(report.summarize(measured))
    pages.show(pages.table(rows, bandwidth))
    document = report.document(rows, report.command("benchmarks"), bandwidth)
    document["memory"] = options.memory if is_configured else "default"
    report.write_document(options.out, document)
    if options.markdown:
        report.write(options.markdown, pages.page(document))


def _is_installed(peer: str, optional: bool) -> bool:
    if peer not in MODULES:
        raise SystemExit(f"--peers must be one of {', '.join(MODULES)}; got {peer!r}")
    try:
        importlib.import_module(MODULES[peer])
    except ImportError as error:
        if not optional:
            raise SystemExit(
                f"{peer} is not installed: pip install .[bench]"
            ) from error
        print(f"{peer} is not installed: not compared")
        return False
    return True


if __name__ == "__main__":
    main(tyro.cli(Options))

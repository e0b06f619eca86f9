"""The main loop of the small benchmarks: programs in turn, and their times' ratios."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import malloc, report
from .timing import Thunk, in_turn, queued_calls, spread


@dataclass(frozen=True)
class Options:
    """What every such benchmark lets its caller choose."""

    rounds: int = 20
    """Timed calls of each program, at most."""
    out: Path = Path("runs/ratios.json")
    """File for the measurements, JSON."""


@dataclass(frozen=True)
class Group:
    """Programs that are timed in turn; those with labels get a row."""

    programs: Mapping[str, Thunk]
    labels: Mapping[str, dict[str, Any]]


def run(
    module: str, groups: Iterable[Group], options: Options, *, of: str, seconds: float
) -> None:
    """Time groups of programs, print their rows and write them.

    A row holds its labels, the program's median time, and the quartiles of its ratio to
    the program ``of`` of its group. A group has ``seconds`` for each program.
    """
    malloc.configure("kept")
    rows = []
    for group in groups:
        times = in_turn(
            group.programs,
            rounds=options.rounds,
            seconds=seconds,
            calls=queued_calls(),
        )
        for program, labels in group.labels.items():
            ratio = spread(times[program] / times[of])
            rows.append(
                {
                    **labels,
                    "milliseconds": round(1e3 * spread(times[program]).median, 3),
                    f"of_{of.lower()}": [round(x, 3) for x in ratio],
                }
            )
            print(rows[-1], flush=True)
    document = report.document(rows, report.command(module))
    report.write_document(options.out, document)

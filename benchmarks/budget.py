"""Measure within a budget of time; what has been measured is always on disk."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import pages, report

NO_TIME = "no time was left"
Measure = Callable[[], report.Row]


class Record:
    """The document, and its page, written anew at every change."""

    def __init__(self, document: dict[str, Any], out: Path, page: Path) -> None:
        self.document, self.out, self.page = document, out, page
        self.lock = threading.Lock()  # held while the files are written

    def add(self, measured: report.Row) -> None:
        """Add a row, or the deterministic program's part to the row of its case."""
        row, rows = report.summarize(measured), self.document["rows"]
        same = [r for r in rows if (r["case"], r["what"]) == (row["case"], row["what"])]
        if not same:
            rows.append(row)
            return
        for part in ("seconds", "ratios"):
            same[0][part][report.DETERMINISTIC] = row[part][report.DETERMINISTIC]

    def write(self) -> None:
        """Write both files."""
        with self.lock:
            report.write(self.out, report.to_json(self.document))
            report.write(self.page, pages.page(self.document))


def measure_all(plan: Mapping[str, Measure], record: Record) -> bool:
    """Measure row after row; the document lists the rows that are left out, and why.

    Returns:
      Whether no row failed.
    """
    left_out = record.document["left_out"] = dict.fromkeys(plan, NO_TIME)
    for name, measure in plan.items():
        start = time.perf_counter()
        try:
            record.add(measure())
            del left_out[name]
        except Exception as error:  # the other rows do not depend on this one
            left_out[name] = f"{type(error).__name__}: {error}".splitlines()[0]
        taken = time.perf_counter() - start
        print(f"{taken:6.1f} s  {name}  {left_out.get(name, '')}", flush=True)
        record.write()
    return not left_out


@contextmanager
def stop_at(end: float, record: Record) -> Iterator[None]:
    """End the process when ``time.monotonic`` reaches ``end``, wherever it is.

    A row may be in the compiler or on the GPU then, which no exception interrupts.
    """

    def stop() -> None:
        with record.lock:
            print(f"The time is up. {described(record)}", flush=True)
            os._exit(0 if record.document["rows"] else 1)

    timer = threading.Timer(max(0.0, end - time.monotonic()), stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def described(record: Record) -> str:
    """How much was measured, and where it is."""
    document = record.document
    count, left = len(document["rows"]), len(document.get("left_out", {}))
    return f"{count} rows, {left} left out: {record.out}, {record.page}"

"""The tables and the JSON of a benchmark."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from .cases import WHATS
from .timing import queued_calls, spread

Row = dict[str, Any]
OURS, PLAIN = "stn_jax", "plain JAX"  # with the compiled CPU kernel, and without
PACKAGES = ("jax", "jaxlib", "flax", "torch", "kornia", "dm-pix", "keras", "scipy")


def summarize(row: Row) -> Row:
    """Replace the seconds of a row's rounds by their quartiles: low, median, high.

    A ratio divides our time, or plain JAX's, by a peer's in the same round.
    """
    times = {name: np.asarray(t) for name, t in row["seconds"].items()}
    ratios = {
        name: {
            peer: _quartiles(times[name] / theirs)
            for peer, theirs in times.items()
            if peer not in (name, OURS)
        }
        for name in (OURS, PLAIN)
        if name in times
    }
    return {
        **row,
        "compile_seconds": _rounded(row["compile_seconds"]),
        "rounds": len(times[OURS]),
        "seconds": {name: _quartiles(t) for name, t in times.items()},
        "ratios": ratios,
    }


def _quartiles(values: np.ndarray) -> list[float]:
    return [_rounded(value) for value in spread(values)]


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def cells(rows: list[Row], bandwidth: float) -> tuple[list[str], list[list[str]]]:
    """The header of the table and its lines."""
    peers = list(dict.fromkeys(peer for row in rows for peer in row["ratios"][OURS]))
    head = ["case", "what", "ms", *peers, "of copy", "MB", "compile s"]
    lines = []
    for row in rows:
        _, seconds, _ = row["seconds"][OURS]
        ratios, least = row["ratios"][OURS], row["least_bytes"]
        temporary = row["temporary_bytes"]
        lines.append(
            [
                row["case"],
                row["what"],
                f"{1e3 * seconds:.{2 if seconds > 1e-4 else 3}f}",
                *(_ratio(ratios.get(peer)) for peer in peers),
                "-" if least is None else f"{least / seconds / bandwidth:.0%}",
                "-" if temporary is None else f"{temporary / 1e6:.1f}",
                f"{row['compile_seconds']:.1f}",
            ]
        )
    return head, lines


def _ratio(spread: list[float] | None) -> str:
    return "{1:.2f} ({0:.2f}-{2:.2f})".format(*spread) if spread else "-"


def table(rows: list[Row], bandwidth: float) -> Table:
    """The table for a terminal."""
    head, lines = cells(rows, bandwidth)
    out = Table(title="time of stn_jax / time of the peer: median (quartiles)")
    for name in head:
        out.add_column(name, justify="left" if name in ("case", "what") else "right")
    for line in lines:
        out.add_row(*line)
    return out


PAGE = """# How fast it is

This page compares the time of stn_jax with that of other libraries, case by case.

Made by `{command}` on {date}: {machine}, {device}; Python {python}, {versions}.
A large copy reads and writes {bandwidth:.0f} GB/s on this machine.

The rows:

- A row is one program, timed in turn with the peers' (A, B, A, B, ...).
- A case is named batch x image size x channels. Affine grids rotate by up to 45 degrees
  and scale by 0.7 to 1.3; TPS are thin plate spline grids.
- "forward" is the forward pass, "grid" adds the gradient of the grid, "both" adds those
  of grid and image.{legend}

The columns:

- "ms": our median time in milliseconds.
- A library's name: **our time divided by the library's, median (quartiles); below 1 we
  are faster**.
- {column}
- "of copy": the bytes of all inputs and outputs, relative to what a copy moves in our
  time.
- "MB": temporary memory of our program. "compile s": seconds to compile it.

{how}

"""
CPU_LEGEND = """ "vmap" is batched by the caller's `jax.vmap`.
- bf16 are bfloat16 images. PyTorch's CPU sampler does not support them, so its time
  includes the casts.
- A module is a spatial transformer with the paper's localization network: forward, or
  with the gradients of its parameters.
- A training step is one step of stochastic gradient descent. Ours includes the
  distortion of its images, PyTorch's does not."""
PLAIN_JAX = '"plain JAX": the same ratio to stn_jax without the compiled CPU kernel. '
KERNEL = {
    True: "All other times of ours are with it.",
    False: "The kernel was not built here.",
}
DENSE = """\
"dense": the same ratio to stn_jax with `implementation="dense"`, for images of up to
  64 x 64 pixels."""
QUEUED = """\
A measurement queues {} calls of a program, waits for the last result, and divides the
time by their number."""
MEMORY = {
    "kept": "Freed memory stays with the process and is reused, in all programs.",
    "fresh": "Blocks of 1 MB and more come fresh from the operating system.",
    "default": "The C library reuses freed memory by its defaults.",
}


def page(document: dict[str, Any]) -> str:
    """The page for the docs."""
    versions = ", ".join(f"{k} {v}" for k, v in document["versions"].items())
    bandwidth = document["copy_bytes_per_second"]
    is_cpu = document["device"] == "cpu"
    text = PAGE.format(
        **{**document, "versions": versions},
        legend=CPU_LEGEND if is_cpu else "",
        column=PLAIN_JAX + KERNEL[document["kernel"]] if is_cpu else DENSE,
        how=MEMORY[document["memory"]]
        if is_cpu
        else QUEUED.format(document["queued_calls"]),
        bandwidth=bandwidth / 1e9,
    )
    head, lines = cells(document["rows"], bandwidth)
    aligned = ["---" if name in ("case", "what") else "---:" for name in head]
    return text + "".join(
        "| " + " | ".join(line) + " |\n" for line in [head, aligned, *lines]
    )


def summary(document: dict[str, Any]) -> list[str]:
    """The README's tables: median ratios to PyTorch's time, one line for each case.

    The ratios of plain JAX stand in parentheses.
    """
    medians: dict[str, dict[str, str]] = {}
    for row in document["rows"]:
        ours, *plain = (of.get("PyTorch") for of in row["ratios"].values())
        if ours:
            text = " ".join([f"{ours[1]:.2f}", *(f"({of[1]:.2f})" for of in plain)])
            medians.setdefault(row["case"], {})[row["what"]] = text
    lines = ["| case | forward | with grid gradient | with both gradients |"]
    lines += ["|---|---:|---:|---:|"]
    for case, of in medians.items():
        if {*WHATS} <= of.keys() and not case.endswith((" bf16", " TPS")):
            lines.append(f"| {case} | " + " | ".join(of[w] for w in WHATS) + " |")
    lines += ["", "| module or training step | ratio |", "|---|---:|"]
    for case, of in medians.items():
        if "training" in of:
            lines.append(f"| {case} | {of['training']} |")
        if case.startswith("module"):
            lines += [f"| {case} {what} | {ratio} |" for what, ratio in of.items()]
    return lines


def command(module: str) -> str:
    """The command line that started this program, a module of the benchmarks."""
    return shlex.join(["python", "-m", module, *sys.argv[1:]])


def document(rows: Any, command: str, bandwidth: float | None = None) -> dict[str, Any]:
    """The JSON document: the rows, the machine and the versions."""
    import jax

    from stn_jax.sampling import cpu

    copied = {} if bandwidth is None else {"copy_bytes_per_second": round(bandwidth)}
    return {
        "command": command,
        "date": today(),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPU cores",
        "device": str(jax.devices()[0].device_kind),
        "queued_calls": queued_calls(),
        "python": platform.python_version(),
        "versions": {name: v for name in PACKAGES if (v := version(name))},
        **copied,
        "kernel": jax.default_backend() == "cpu" and cpu.is_on(),
        "rows": rows,
    }


def to_json(document: dict[str, Any]) -> str:
    """Indented JSON for line-by-line diffs; a list of numbers takes one line."""
    text = json.dumps(document, indent=1)
    return re.sub(r"\[\s+([\d.e+,\s-]+?)\s+\]", _on_one_line, text) + "\n"


def _on_one_line(numbers: re.Match[str]) -> str:
    return f"[{' '.join(numbers[1].split())}]"


def write_document(path: Path, document: dict[str, Any]) -> None:
    """Write a document, and print where it is."""
    write(path, to_json(document))
    print(f"measurements: {path}")


def write(path: Path, text: str) -> None:
    """Write a file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(text)
    partial.replace(path)


def show(out: Table) -> None:
    """Print a table, at full width if there is no terminal."""
    Console(width=None if os.isatty(1) else 160).print(out)


def today() -> str:
    """The current date in ISO 8601."""
    return datetime.now(UTC).date().isoformat()


def version(name: str) -> str | None:
    """Version of a package, or None if it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None

"""The table and the JSON of a benchmark."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from .cases import WHATS
from .timing import spread

Row = dict[str, Any]
PACKAGES = ("jax", "jaxlib", "flax", "torch", "kornia", "dm-pix", "keras", "scipy")


def ratios(row: Row) -> dict[str, list[float]]:
    """Ours over each peer's, round by round: low quartile, median, high quartile."""
    times = {name: np.asarray(t) for name, t in row["seconds"].items()}
    ours = times.pop("stn_jax")
    return {name: [*spread(ours / theirs)] for name, theirs in times.items()}


def cells(rows: list[Row], bandwidth: float) -> tuple[list[str], list[list[str]]]:
    """The head of the table, and its lines."""
    peers = list(dict.fromkeys(peer for row in rows for peer in ratios(row)))
    head = ["case", "what", "ms", *peers, "of copy", "MB", "compile s"]
    lines = []
    for row in rows:
        seconds = float(np.median(row["seconds"]["stn_jax"]))
        found, least = ratios(row), row["least_bytes"]
        temporary = row["temporary_bytes"]
        lines.append(
            [
                row["case"],
                row["what"],
                f"{1e3 * seconds:.2f}",
                *(_ratio(found.get(peer)) for peer in peers),
                "-" if least is None else f"{least / seconds / bandwidth:.0%}",
                "-" if temporary is None else f"{temporary / 1e6:.1f}",
                f"{row['compile_seconds']:.1f}",
            ]
        )
    return head, lines


def _ratio(spread: list[float] | None) -> str:
    return "{1:.2f} ({0:.2f}-{2:.2f})".format(*spread) if spread else "-"


def table(rows: list[Row], bandwidth: float) -> Table:
    """For a terminal."""
    head, lines = cells(rows, bandwidth)
    out = Table(title="time of stn_jax / time of the peer: median (quartiles)")
    for name in head:
        out.add_column(name, justify="left" if name in ("case", "what") else "right")
    for line in lines:
        out.add_row(*line)
    return out


PAGE = """# How fast it is

Made by `{command}` on {date}: {machine}, {device}; Python {python}, {versions}. A large
copy reads and writes {bandwidth:.0f} GB/s there.

Each line is one program, timed in turn with the peers' (A, B, A, B, ...): the median
time of ours in milliseconds; **the ratio of our time to the peer's, median (quartiles);
below 1 we are faster**; the bytes that must be read and written at least, as a share of
what a copy moves in that time; the program's temporary memory in megabytes; the seconds
to compile it. Affine grids turn by up to 45 degrees and scale by 0.7 to 1.3; "grid" is
the forward pass and the gradient of the grid, "both" those of grid and image; bf16 are
bfloat16 images, which PyTorch's sampler does not know on a CPU: the casts are in its
time. A module is a spatial transformer with the paper's localization network, forward
or with the gradients of its parameters. A training step is one of stochastic gradient
descent; ours distorts its images. "plain JAX" is stn_jax itself without the CPU kernel
that `python -m stn_jax.cpu build` compiles, {reader}
{memory}

"""
MEMORY = {
    "kept": "Memory that is given back is kept and handed out again, to all alike.",
    "fresh": "Memory from 1 MB on comes fresh from the kernel, for all alike.",
    "default": "Memory is handed out as the C library has it by default.",
}


def page(document: dict[str, Any]) -> str:
    """For the docs."""
    versions = ", ".join(f"{k} {v}" for k, v in document["versions"].items())
    bandwidth = document["copy_bytes_per_second"]
    reader = "which was called here." if document["reader"] else "which was not there."
    memory = MEMORY[document["memory"]]
    text = PAGE.format(
        **{**document, "versions": versions, "reader": reader, "memory": memory},
        bandwidth=bandwidth / 1e9,
    )
    head, lines = cells(document["rows"], bandwidth)
    aligned = ["---" if name in ("case", "what") else "---:" for name in head]
    return text + "".join(
        "| " + " | ".join(line) + " |\n" for line in [head, aligned, *lines]
    )


def summary(document: dict[str, Any]) -> list[str]:
    """For the README: the medians of the ratios to PyTorch's, a line for each case;
    and in parentheses those of plain JAX.
    """
    medians: dict[str, dict[str, str]] = {}
    for row in document["rows"]:
        times = {name: np.array(values) for name, values in row["seconds"].items()}
        if (theirs := times.get("PyTorch")) is None:
            continue
        text = f"{np.median(times['stn_jax'] / theirs):.2f}"
        if (plain := times.get("plain JAX")) is not None:
            text += f" ({np.median(plain / theirs):.2f})"
        medians.setdefault(row["case"], {})[row["what"]] = text
    lines = ["| case | forward | and grid's gradient | and image's |"]
    lines += ["|---|---:|---:|---:|"]
    for case, of in medians.items():
        if {*WHATS} <= of.keys() and not case.endswith((" bf16", " TPS")):
            lines.append(f"| {case} | " + " | ".join(of[w] for w in WHATS) + " |")
    lines += ["", "| module, training step | |", "|---|---:|"]
    for case, of in medians.items():
        if "training" in of:
            lines.append(f"| {case} | {of['training']} |")
        if case.startswith("module"):
            lines += [f"| {case} {what} | {ratio} |" for what, ratio in of.items()]
    return lines


def document(rows: list[Row], bandwidth: float, command: str) -> dict[str, Any]:
    """For machines: what was measured, on what."""
    import jax

    from stn_jax import cpu

    return {
        "command": command,
        "date": today(),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPU cores",
        "device": str(jax.devices()[0].device_kind),
        "python": platform.python_version(),
        "versions": {name: v for name in PACKAGES if (v := version(name))},
        "copy_bytes_per_second": bandwidth,
        "reader": jax.default_backend() == "cpu" and cpu.is_on(),
        "rows": [
            {
                **row,
                "seconds": {
                    name: [float(f"{t:.3e}") for t in times]
                    for name, times in row["seconds"].items()
                },
                "ratios": ratios(row),
            }
            for row in rows
        ],
    }


def write(path: Path, text: str) -> None:
    """The file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(text)
    partial.replace(path)


def show(out: Table) -> None:
    """Print a table, at its full width also where there is no terminal."""
    Console(width=None if os.isatty(1) else 160).print(out)


def today() -> str:
    """The date, in ISO 8601."""
    return datetime.now(UTC).date().isoformat()


def version(name: str) -> str | None:
    """Of an installed package."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None

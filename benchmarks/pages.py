"""The tables of a benchmark: for a terminal, as a page, and its summary."""

from __future__ import annotations

import os
from collections import defaultdict
from typing import Any

from rich.console import Console
from rich.table import Table

from .cases import WHATS
from .report import DETERMINISTIC, OURS, PLAIN, Row


def cells(rows: list[Row], bandwidth: float) -> tuple[list[str], list[list[str]]]:
    """The header of the table and its lines."""
    peers = list(dict.fromkeys(peer for row in rows for peer in row["ratios"][OURS]))
    fixed = [DETERMINISTIC] if _has_deterministic(rows) else []
    head = ["case", "what", "ms", *peers, *fixed, "of copy", "MB", "compile s"]
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
                *(_ratio(row["ratios"].get(name, {}).get(OURS)) for name in fixed),
                "-" if least is None else f"{least / seconds / bandwidth:.0%}",
                "-" if temporary is None else f"{temporary / 1e6:.1f}",
                f"{row['compile_seconds']:.1f}",
            ]
        )
    return head, lines


def _has_deterministic(rows: list[Row]) -> bool:
    return any(DETERMINISTIC in row["ratios"] for row in rows)


def _ratio(spread: list[float] | None) -> str:
    if not spread:
        return "-"
    low, median, high = (f"{x:.2f}" if x < 100 else f"{x:.0f}" for x in spread)
    return f"{median} ({low}-{high})"


def table(rows: list[Row], bandwidth: float) -> Table:
    """The table for a terminal."""
    head, lines = cells(rows, bandwidth)
    out = Table(title="time of stn_jax / time of the peer: median (quartiles)")
    for name in head:
        out.add_column(name, justify="left" if name in ("case", "what") else "right")
    for line in lines:
        out.add_row(*line)
    return out


def show(out: Table) -> None:
    """Print a table, at full width if there is no terminal."""
    Console(width=None if os.isatty(1) else 160).print(out)


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
NETWORKS = """
- A module is a spatial transformer with the paper's localization network: forward, or
  with the gradients of its parameters.
- A training step is one step of stochastic gradient descent. Ours includes the
  distortion of its images, PyTorch's does not."""
CPU_LEGEND = f""" "vmap" is batched by the caller's `jax.vmap`.
- bf16 are bfloat16 images. PyTorch's CPU sampler does not support them, so its time
  includes the casts.{NETWORKS}"""
PLAIN_JAX = '"plain JAX": the same ratio to stn_jax without the compiled CPU kernel. '
KERNEL = {
    True: "All other times of ours are with it.",
    False: "The kernel was not built here.",
}
DENSE = """\
"dense": the same ratio to stn_jax with `implementation="dense"`, for images of up to
  64 x 64 pixels."""
FIXED = """
- "deterministic": the time of our program compiled with `xla_gpu_deterministic_ops`,
  **divided by that of the ordinary one**, for rows whose gradients are sums over points
  or images. Programs of more than 30 ms (10 steps: 600 ms) were run once, the others
  in turn."""
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
    bandwidth, rows = document["copy_bytes_per_second"], document["rows"]
    is_cpu = document["device"] == "cpu"
    has_networks = any(row["least_bytes"] is None for row in rows)
    column = PLAIN_JAX + KERNEL[document["kernel"]] if is_cpu else DENSE
    text = PAGE.format(
        **{**document, "versions": versions},
        legend=CPU_LEGEND if is_cpu else NETWORKS if has_networks else "",
        column=column + (FIXED if _has_deterministic(rows) else ""),
        how=MEMORY[document["memory"]]
        if is_cpu
        else QUEUED.format(document["queued_calls"]),
        bandwidth=bandwidth / 1e9,
    )
    head, lines = cells(rows, bandwidth)
    aligned = ["---" if name in ("case", "what") else "---:" for name in head]
    table = ("| " + " | ".join(line) + " |\n" for line in [head, aligned, *lines])
    return text + "".join(table) + _left_out(document.get("left_out", {}))


def _left_out(reasons: dict[str, str]) -> str:
    """The rows that were not measured, by reason."""
    if not reasons:
        return ""
    rows = defaultdict(list)
    for row, reason in reasons.items():
        rows[reason].append(row)
    lines = (f"- {reason}: {', '.join(names)}.\n" for reason, names in rows.items())
    return "\nLeft out:\n\n" + "".join(lines)


def summary(document: dict[str, Any]) -> list[str]:
    """The tables of docs/speed.md: median ratios to PyTorch's time, case by case.

    The ratios of plain JAX stand in parentheses. The second table, of modules and
    training steps, is there if they were measured.
    """
    medians: dict[str, dict[str, str]] = {}
    for row in document["rows"]:
        ours, plain = (
            row["ratios"].get(name, {}).get("PyTorch") for name in (OURS, PLAIN)
        )
        if ours:
            text = f"{ours[1]:.2f}" + (f" ({plain[1]:.2f})" if plain else "")
            medians.setdefault(row["case"], {})[row["what"]] = text
    lines = ["| case | forward | with grid gradient | with both gradients |"]
    lines += ["|---|---:|---:|---:|"]
    for case, of in medians.items():
        if {*WHATS} <= of.keys() and not case.endswith((" bf16", " TPS")):
            lines.append(f"| {case} | " + " | ".join(of[w] for w in WHATS) + " |")
    networks = []
    for case, of in medians.items():
        if "training" in of:
            networks.append(f"| {case} | {of['training']} |")
        if case.startswith("module"):
            networks += [f"| {case} {what} | {ratio} |" for what, ratio in of.items()]
    if networks:
        lines += ["", "| module or training step | ratio |", "|---|---:|", *networks]
    return lines

"""Time and memory against the number of pixels: ``python -m benchmarks.growth``.

It measures our forward pass with both gradients, and draws docs/growth.png.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from matplotlib.figure import Figure
from rich.progress import track

from . import on_jax, report
from .cases import Case
from .timing import in_turn

BATCHES = tuple(Case(2**k, (64, 64), 3, (64, 64)) for k in range(1, 10))
SIDES = tuple(Case(4, (2**k,) * 2, 3, (2**k,) * 2) for k in range(5, 11))


@dataclass(frozen=True)
class Options:
    """Measure images of growing size and number."""

    figure: Path = Path("runs/growth.png")
    """File for the figure."""
    out: Path = Path("runs/growth.json")
    """File for the measurements, JSON."""


def main(options: Options) -> None:
    """Measure, write and draw."""
    rows = [
        {"series": series, "pixels": math.prod(case.image_shape[:-1]), **_row(case)}
        for series, cases in (("batch", BATCHES), ("sides", SIDES))
        for case in track(cases, series)
    ]
    document = report.document(rows, report.command("benchmarks.growth"))
    report.write_document(options.out, document)
    options.figure.parent.mkdir(parents=True, exist_ok=True)
    draw(document).savefig(options.figure, dpi=110)
    print(f"figure: {options.figure}")


def _row(case: Case) -> dict[str, float | str]:
    program = on_jax.program(on_jax.ours(case), case, "both")
    times = in_turn({"": program}, rounds=20, seconds=3, calls=program.calls)
    memory = program.compiled.memory_analysis()
    return {
        "case": str(case),
        "seconds": float(np.median(times[""])),
        "temporary_bytes": memory.temp_size_in_bytes,
        "all_bytes": memory.temp_size_in_bytes
        + memory.argument_size_in_bytes
        + memory.output_size_in_bytes,
    }


def draw(document: dict) -> Figure:
    """Two panels on logarithmic axes, each with a line of slope one."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    for axes, key, scale, label in zip(
        figure.subplots(1, 2),
        ("seconds", "all_bytes"),
        (1e3, 1e-6),
        ("milliseconds", "megabytes: inputs, results, temporaries"),
        strict=True,
    ):
        for series, text in (
            ("batch", "64 x 64, growing number of images"),
            ("sides", "4 images of growing size"),
        ):
            rows = [row for row in document["rows"] if row["series"] == series]
            pixels = np.array([row["pixels"] for row in rows])
            values = scale * np.array([row[key] for row in rows])
            axes.plot(pixels, values, "o-", markersize=4, label=text)
        line = values[-1] * pixels / pixels[-1]
        axes.plot(pixels, line, ":", color="gray", label="proportional to the pixels")
        axes.set(xscale="log", yscale="log", xlabel="pixels in total", ylabel=label)
        axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    kernel = "with the compiled CPU kernel" if document["kernel"] else "plain JAX"
    figure.suptitle(
        f"bilinear_sample, forward and both gradients, 3 channels, float32\n{kernel}, "
        f"{document['machine']}, jax {document['versions']['jax']}, {document['date']}",
        fontsize=10,
    )
    return figure


if __name__ == "__main__":
    main(tyro.cli(Options))

"""A figure and a table of the co-localization's results."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from rich.table import Table

from stn_jax import warp
from stn_jax.drawing import AROUND, UPPER
from stn_jax.transforms import Attention

from .locating import Located
from .scenes import CANVAS, PATCH

# table 5: digits found in percent, by the number of distractors
PAPER = {0: (100,) * 10, 16: (81, 82, 88, 75, 94, 84, 93, 85, 89, 87)}


def located_row(found: Located) -> dict[str, Any]:
    """A class's results, as they are stored."""
    return {
        "digit": found.digit,
        "clutter": found.distractors,
        "correct": found.correct,
        "overlap": round(float(found.overlap.mean()), 4),
        "paper": PAPER.get(found.distractors, (None,) * 10)[found.digit],
        "loss": round(found.loss, 4),
        "doubt": round(found.entropy, 4),  # the name in results that exist
    }


def located_table(located: list[Located]) -> Table:
    """The percentages of found digits, with the paper's."""
    table = Table("distractors", title="digits found, in %, and the paper's")
    for digit in sorted({found.digit for found in located}):
        table.add_column(str(digit), justify="right")
    for distractors in dict.fromkeys(found.distractors for found in located):
        rows = [located_row(f) for f in located if f.distractors == distractors]
        rows.sort(key=lambda row: row["digit"])
        table.add_row(str(distractors), *(f"{row['correct']:.0f}" for row in rows))
        table.add_row("paper", *(str(row["paper"]) for row in rows))
    return table


def located_figure(located: list[Located], count: int = 10) -> Figure:
    """Draw each class's first image with the patch in yellow and the digit in red.

    The row below shows the patches.
    """
    shown = located[: 2 * count]
    rows = -(-len(shown) // count) * 2
    columns = min(count, len(shown))
    figure = Figure((1.1 * columns + 0.8, 1.2 * rows + 0.3), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for index, found in enumerate(shown):
        row, column = divmod(index, columns)
        above, below = grid[2 * row, column], grid[2 * row + 1, column]
        image = np.asarray(found.scenes.images[0])
        above.imshow(image, cmap="gray", vmin=0, vmax=1)
        _square(above, np.asarray(found.scenes.corners[0]), PATCH, UPPER)
        s, *center = found.params[0]
        side = abs(s) * CANVAS
        _square(above, (np.array(center) + 1) * CANVAS / 2 - side / 2, side, AROUND)
        patch = warp(image, Attention(), found.params[0], (PATCH, PATCH))
        below.imshow(np.asarray(patch), cmap="gray", vmin=0, vmax=1)
        below.set_xlabel(f"{found.correct:.0f}%")
        if column == 0:
            above.set_ylabel(f"{found.distractors} distractors\nlocated")
            below.set_ylabel("patch")
    return figure


def _square(axes: Axes, corner: np.ndarray, side: float, color: str) -> None:
    square = Rectangle(
        tuple(corner - 0.5), side, side, fill=False, color=color, linewidth=1.5
    )
    axes.add_patch(square)

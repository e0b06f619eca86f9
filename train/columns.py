"""Tables as plain text, for terminals, pipes and files."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len


def aligned(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Align rows of cells in columns, two spaces apart.

    Args:
      rows: the rows, each with as many cells; the first may be the heading.
      left: how many columns are aligned on the left. The others hold numbers.

    Returns:
      The lines. Cells are never shortened: a terminal wraps long lines.
    """
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = []
        for index, (cell, width) in enumerate(zip(row, widths, strict=True)):
            fill = " " * (width - cell_len(cell))
            cells.append(cell + fill if index < left else fill + cell)
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)

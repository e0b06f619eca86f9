"""Tables as plain text, for terminals, pipes and files."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len


def aligned(rows: Sequence[Sequence[str]], alignment: str) -> str:
    """Align rows of cells in columns, two spaces apart.

    Args:
      rows: the rows; the first may be the heading.
      alignment: "l" for each column aligned on the left, "r" for those on the right.

    Returns:
      The lines. Cells are never shortened: a terminal wraps long lines.

    >>> print(aligned([["class", "error"], ["cat", "5%"]], "lr"))
    class  error
    cat       5%
    """
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = []
        for cell, width, side in zip(row, widths, alignment, strict=True):
            fill = " " * (width - cell_len(cell))
            cells.append(cell + fill if side == "l" else fill + cell)
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)

"""Gathers or products of matrices: the one place that decides, by platform and shape.

A gather looks up the few pixels that count at a point; a dense product weighs them all,
and so multiplies many zeros. The results agree but for rounding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .._checks import check_choice

IMPLEMENTATIONS = ("gather", "dense")


def check_implementation(implementation: str | None) -> None:
    """One of the names, or None for the choice below."""
    if implementation is not None:
        check_choice("implementation", implementation, IMPLEMENTATIONS)


def is_dense(platform: str, size: Sequence[Any]) -> bool:
    """For any grid: whether products with an image of this size beat gathers.

    A TPU gathers element by element, while its products are nearly free: 64 x 64 pixels
    take 8 thousand multiplications for each point, 1e-10 s at 1e14 a second.
    """
    is_known = all(isinstance(n, int) for n in size)  # not left open by an export
    return platform == "tpu" and is_known and math.prod(size) <= 64 * 64


def is_separable(platform: str) -> bool:
    """For axis-aligned families: whether a small product for each axis beats gathers.

    On a CPU it does with one channel alone, and there not with the compiled reader.
    """
    return platform == "tpu"

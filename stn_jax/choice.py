"""Gathers or products of matrices: the one place that decides, by platform and shape.

A gather looks up the few pixels that count at a point; a dense product weighs them all,
and so multiplies many zeros. The results agree but for rounding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from . import cpu
from .checks import check_choice

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
    return platform == "tpu" and _is_at_most(64 * 64, *size)


def is_separable(platform: str, size: Sequence[Any], channels: int) -> bool:
    """For axis-aligned families: whether a small product for each axis beats gathers.

    On a CPU, where XLA gathers pixel by pixel: 2 to 5 times faster with 1 channel of 28
    and of 60 pixels, 3 to 6 times slower with 32 and 64 channels. The compiled reader
    is faster than both.
    """
    if platform == "cpu":
        is_small = channels <= 4 and all(_is_at_most(64, n) for n in size)
        return is_small and not cpu.is_on()
    return platform == "tpu"


def _is_at_most(limit: int, *size: Any) -> bool:
    """Whether an image has so few pixels; not where an export leaves that open."""
    return all(isinstance(n, int) for n in size) and math.prod(size) <= limit

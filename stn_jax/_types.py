"""Type aliases of the arguments of public functions. The shapes are conventions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from jax.typing import ArrayLike

Image: TypeAlias = ArrayLike
"""``(*batch, H, W, C)``, channels last; volumes ``(*batch, D, H, W, C)``."""

Grid: TypeAlias = ArrayLike
"""``(*batch, h, w, 2)``, last axis ``(x, y)``; for volumes ``(*batch, d, h, w, 3)``,
last axis ``(x, y, z)``. Normalized unless a function says otherwise."""

Theta: TypeAlias = ArrayLike
"""Matrices from output to input, normalized: affine ``(*batch, 2, 3)`` or ``(*batch, 3,
4)``; homogeneous ``(*batch, 3, 3)`` or ``(*batch, 4, 4)``."""

Params: TypeAlias = ArrayLike
"""The flat parameters of a family, ``(*batch, P)``."""

Size: TypeAlias = Sequence[int]
"""Pixels in image order, static: ``(height, width)`` or ``(depth, height, width)``."""

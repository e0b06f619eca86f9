"""The plan of one call of the sampler: all that is known before it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ..coordinates import axis_inside, center_and_half, keep_infinite
from .kernels import Kernel, nearest_pixels
from .padding import RULES

LIMIT = 2**31 - 2**7  # the farthest pixel coordinate: the last float32 within int32


class Tap(NamedTuple):
    """One of the pixels that count at each point, along one axis."""

    pixel: jax.Array
    """Its index."""
    exists: jax.Array
    """False where the fill value stands instead."""
    weight: jax.Array
    """k(x - m) of eq. (3)."""


class Axis(NamedTuple):
    """An axis of the image, and how it is extended beyond the image."""

    n: int
    """Pixels."""
    padding_mode: str
    margin: int
    """Spline coefficients before the first pixel."""
    align_corners: bool
    coordinates: str

    def to_pixels(self, x: jax.Array) -> jax.Array:
        """Convert coordinates to pixels, within what int32 can index.

        The clip stops the gradient of what is infinitely far away. It also keeps
        compilers from fusing the product and the sum into one operation that rounds
        once. XLA computes the pixels' indices in one loop and their weights in another.
        If it fused them in only one of the two, then a point at a pixel could get the
        index of one neighbor and the weight of the other.
        """
        if self.coordinates == "pixel":
            return jnp.clip(x, -LIMIT, LIMIT)
        center, half = center_and_half(self.n, self.align_corners)
        product = keep_infinite(x, x * half, half)
        return jnp.clip(product, -LIMIT, LIMIT / 2) + center  # center <= LIMIT / 2

    def inside(self, x: jax.Array) -> jax.Array:
        """Whether coordinates are inside the image along this axis."""
        return axis_inside(x, self.n, self.align_corners, self.coordinates)

    def taps(self, method: str | Kernel, x: jax.Array) -> list[Tap]:
        """The pixels that count at x."""
        first, weights = nearest_pixels(method, self.to_pixels(x))
        size = self.n + 2 * self.margin
        indices = (first + (self.margin + i) for i in range(len(weights)))
        rule = RULES[self.padding_mode]
        return [
            Tap(*rule(index, size, self.align_corners), weight)
            for index, weight in zip(indices, weights, strict=True)
        ]


@dataclass(frozen=True)
class Plan:
    """All that a call of the sampler knows before it runs; hashable."""

    method: str | Kernel
    axes: tuple[Axis, ...]
    """In image order: (height, width) or (depth, height, width)."""
    dtype: jnp.dtype
    """Of the image, and of the result."""
    implementation: str | None
    """"gather", "dense" or, for :mod:`stn_jax.sampling.dispatch` to choose, None."""
    is_filled: bool
    """Add the fill value's share of the weights where taps are outside the image."""
    is_residual: bool
    """The image holds the spline coefficients of its difference from the fill value."""
    is_hard: bool
    """Points outside the image get the fill value alone."""

    def taps(self, points: jax.Array) -> list[list[Tap]]:
        """For each axis in image order, the taps at points ``(..., n)``."""
        return [
            axis.taps(self.method, points[..., -1 - i])  # (x, y) backwards
            for i, axis in enumerate(self.axes)
        ]

"""What sampling needs to know of an axis of the image."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ..coordinates import axis_inside, axis_to_pixels
from .kernels import Kernel, taps
from .padding import RULES

LIMIT = 2**31 - 2**7  # the farthest pixel coordinate, the last float32 in int32


class Axis(NamedTuple):
    """What sampling needs to know of an axis of the image."""

    n: int
    mode: str
    margin: int  # coefficients before the first pixel
    align_corners: bool
    coordinates: str

    def pixels(self, x: jax.Array) -> jax.Array:
        """Coordinates on this axis in pixels, within what int32 can index.

        The clip stops the gradient of what is infinitely far away.
        """
        if self.coordinates == "normalized":
            x = axis_to_pixels(x, self.n, self.align_corners)
        return jnp.clip(x, -LIMIT, LIMIT)

    def inside(self, x: jax.Array) -> jax.Array:
        """Whether coordinates on this axis are inside the image."""
        return axis_inside(x, self.n, False, self.coordinates)

    def taps(self, method: str | Kernel, x: jax.Array) -> list[tuple]:
        """Index, presence and weight of each pixel that counts at x."""
        first, weights = taps(method, self.pixels(x))
        size = self.n + 2 * self.margin
        indices = (first + (self.margin + tap) for tap in range(len(weights)))
        rule = RULES[self.mode]
        return [
            (*rule(index, size, self.align_corners), weight)
            for index, weight in zip(indices, weights, strict=True)
        ]

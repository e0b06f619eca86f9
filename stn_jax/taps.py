"""The taps of a point: which pixels it reads along each axis, and their sum."""

from __future__ import annotations

import itertools
from functools import reduce
from operator import add, and_, mul
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .checks import promote
from .coordinates import axis_inside, axis_to_pixels
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


def weighted_sum(
    image: jax.Array,
    points: jax.Array,
    around: jax.Array | None = None,
    *,
    method: str | Kernel,
    axes: tuple[Axis, ...],
) -> jax.Array:
    """One image ``(*size, C)`` at points ``(*shape, n)``: eq. (3), ``(*shape, C)``.

    ``around``, (C,), is what stands where no pixel does; zeros when None.
    """
    per_axis = [
        axis.taps(method, points[..., -1 - i])  # the points' (x, y) backwards
        for i, axis in enumerate(axes)
    ]
    around = jnp.zeros_like(image, shape=()) if around is None else around
    corners = itertools.product(*per_axis)
    return reduce(add, (_tap(image, corner, around, method) for corner in corners))


def add_around(
    total: jax.Array,
    points: jax.Array,
    around: jax.Array,
    *,
    method: str | Kernel,
    axes: tuple[Axis, ...],
) -> jax.Array:
    """A weighted sum that took zeros for what stands where no pixel does, with
    ``around``, (C,), in their place.
    """
    per_axis = [axis.taps(method, points[..., -1 - i]) for i, axis in enumerate(axes)]
    weight = jnp.zeros_like(points[..., 0])
    is_anywhere = jnp.zeros_like(weight, bool)
    for corner in itertools.product(*per_axis):
        _, present, weights = zip(*corner, strict=True)
        is_outside = ~reduce(and_, present)
        weight = weight + jnp.where(is_outside, reduce(mul, weights), 0)
        is_anywhere = is_anywhere | is_outside
    # the where keeps an infinite or NaN fill out of what lies inside
    around = jnp.broadcast_to(around.astype(total.dtype), total.shape)
    filled = total + weight[..., None].astype(total.dtype) * around
    return jnp.where(is_anywhere[..., None], filled, total)


def _tap(
    image: jax.Array, corner: tuple[tuple, ...], around: jax.Array, method: str | Kernel
) -> jax.Array:
    """What one pixel around each point adds: its value times its weights."""
    index, present, weights = zip(*corner, strict=True)
    pixels = image.at[index].get(mode="promise_in_bounds")
    around = jnp.broadcast_to(around.astype(pixels.dtype), pixels.shape)
    pixels = jnp.where(reduce(and_, present)[..., None], pixels, around)
    if method == "nearest":  # one tap of weight 1: integers stay exact
        return pixels
    weight = reduce(mul, weights)[..., None]
    dtype = promote(pixels.dtype, weight.dtype)
    return pixels.astype(dtype) * weight.astype(dtype)

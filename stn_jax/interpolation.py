"""One image read at one grid: the sum of eq. (3) over the pixels around each point."""

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
        first, weights = taps(method, x)
        size = self.n + 2 * self.margin
        indices = (first + (self.margin + tap) for tap in range(len(weights)))
        rule = RULES[self.mode]
        return [
            (*rule(index, size, self.align_corners), weight)
            for index, weight in zip(indices, weights, strict=True)
        ]


def interpolate(
    image: jax.Array,
    grid: jax.Array,
    fill: jax.Array,
    *,
    method: str | Kernel,
    axes: tuple[Axis, ...],
    is_residual: bool,
    is_hard: bool,
    dtype: jnp.dtype,
) -> jax.Array:
    """One image read at one grid: eq. (3), summed over the pixels around each point.

    The image is a residual where it holds coefficients of what differs from the fill.
    """
    is_nan = jnp.isnan(grid)
    grid = jnp.where(is_nan, 0, grid)
    per_axis = [
        axis.taps(method, axis.pixels(grid[..., -1 - i]))  # the grid's (x, y) backwards
        for i, axis in enumerate(axes)
    ]
    around = jnp.zeros_like(fill) if is_residual else fill
    corners = itertools.product(*per_axis)
    total = reduce(add, (_tap(image, corner, around, method) for corner in corners))
    fill = jnp.broadcast_to(fill.astype(total.dtype), total.shape)
    if is_residual:
        total = total + fill
    if is_hard:
        within = [axis.inside(grid[..., -1 - i]) for i, axis in enumerate(axes)]
        total = jnp.where(reduce(and_, within)[..., None], total, fill)
    is_discrete = not jnp.issubdtype(dtype, jnp.inexact)
    blank = fill if is_discrete else jnp.full_like(total, jnp.nan)
    return jnp.where(is_nan.any(axis=-1, keepdims=True), blank, total).astype(dtype)


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

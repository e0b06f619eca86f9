"""Eq. (3) by gathers: look up the few pixels around each point."""

from __future__ import annotations

import itertools
from functools import reduce
from operator import add, and_, mul

import jax
import jax.numpy as jnp

from .._checks import promote
from .plan import Plan, Tap


def gather_sum(image: jax.Array, points: jax.Array, plan: Plan) -> jax.Array:
    """One image ``(*size, C)`` at points ``(*shape, n)``: eq. (3), ``(*shape, C)``.

    Taps outside the image count as zero.
    """
    if plan.method != "nearest":
        # half precision is summed in the points' precision, and so is its gradient
        image = image.astype(promote(image.dtype, points.dtype))
    corners = itertools.product(*plan.taps(points))
    return reduce(add, (_weighted(image, corner, plan) for corner in corners))


def _weighted(image: jax.Array, corner: tuple[Tap, ...], plan: Plan) -> jax.Array:
    """One term of the sum: a pixel at each point, times its weights."""
    index, exists, weights = zip(*corner, strict=True)
    pixels = image.at[index].get(mode="promise_in_bounds")
    exists = reduce(and_, exists)[..., None]
    pixels = jnp.where(exists, pixels, jnp.zeros_like(pixels))
    if plan.method == "nearest":  # one pixel of weight 1: integers stay exact
        return pixels
    weight = reduce(mul, weights)[..., None]
    dtype = promote(pixels.dtype, weight.dtype)
    return pixels.astype(dtype) * weight.astype(dtype)

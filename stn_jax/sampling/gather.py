"""The taps of a point: which pixels it reads along each axis, and their sum."""

from __future__ import annotations

import itertools
from functools import reduce
from operator import add, and_, mul, or_

import jax
import jax.numpy as jnp

from .._checks import promote
from .kernels import Kernel
from .plan import Axis


def weighted_sum(
    image: jax.Array, points: jax.Array, *, method: str | Kernel, axes: tuple[Axis, ...]
) -> jax.Array:
    """One image ``(*size, C)`` at points ``(*shape, n)``: eq. (3), ``(*shape, C)``,
    with zeros where no pixel is.
    """
    corners = itertools.product(*_per_axis(points, method, axes))
    return reduce(add, (_tap(image, corner, method) for corner in corners))


def add_around(
    total: jax.Array,
    points: jax.Array,
    around: jax.Array,
    *,
    method: str | Kernel,
    axes: tuple[Axis, ...],
) -> jax.Array:
    """A weighted sum with ``around``, (C,), in place of the zeros where no pixel is."""
    whole, found, cut = [], [], []
    for one in _per_axis(points, method, axes):
        whole.append(reduce(add, (weight for *_, weight in one)))
        found.append(reduce(add, (jnp.where(here, w, 0) for _, here, w in one)))
        cut.append(reduce(or_, (~here for _, here, _ in one)))
    absent = (reduce(mul, whole) - reduce(mul, found))[..., None].astype(total.dtype)
    # the where keeps an infinite or NaN fill out of what lies inside
    filled = total + absent * jnp.broadcast_to(around.astype(total.dtype), total.shape)
    return jnp.where(reduce(or_, cut)[..., None], filled, total)


def _per_axis(
    points: jax.Array, method: str | Kernel, axes: tuple[Axis, ...]
) -> list[list[tuple]]:
    return [
        axis.taps(method, points[..., -1 - i])  # the points' (x, y) backwards
        for i, axis in enumerate(axes)
    ]


def _tap(
    image: jax.Array, corner: tuple[tuple, ...], method: str | Kernel
) -> jax.Array:
    """What one pixel around each point adds: its value times its weights."""
    index, present, weights = zip(*corner, strict=True)
    pixels = image.at[index].get(mode="promise_in_bounds")
    pixels = jnp.where(reduce(and_, present)[..., None], pixels, jnp.zeros_like(pixels))
    if method == "nearest":  # one tap of weight 1: integers stay exact
        return pixels
    weight = reduce(mul, weights)[..., None]
    dtype = promote(pixels.dtype, weight.dtype)
    return pixels.astype(dtype) * weight.astype(dtype)

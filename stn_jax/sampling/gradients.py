"""The gradients of sampling, written out: what XLA makes slow of autodiff on a CPU.

For the sum ``V_p = sum_t w_t(x_p) U[i_t(p)]`` over the taps t of a point p, and the
gradient G of V,

    dU[i] = sum of w_t(x_p) G_p over all p, t that read pixel i,
    dx_p  = sum_t dw_t/dx(x_p) <U[i_t(p)], G_p>.

Autodiff makes the same sums, but keeps all taps of all images in memory at once.
"""

from __future__ import annotations

import itertools
import math
from functools import partial, reduce
from operator import add, and_, mul

import jax
import jax.numpy as jnp
from jax import lax

from .._checks import promote
from .plan import Axis

# Channels from which on one image after the other is faster than all at once: then an
# image's taps fill the caches, and the loop over the images is short beside them.
WIDE = 8

# With fewer channels, the numbers in one output from which on it is so for the image's
# gradient: the sum over the points then runs beside the points' own gradient.
LARGE = 2**16


def cotangents(
    image: jax.Array,
    points: jax.Array,
    out_bar: jax.Array,
    *,
    method: str,
    axes: tuple[Axis, ...],
    wants: tuple[bool, bool],
    **_: object,
) -> list[jax.Array]:
    """The gradients of ``images (P, *size, C)`` and of ``points (P, M, n)``.

    Args:
      image: what was read.
      points: where; those with a NaN give and get nothing.
      out_bar: ``(P, M, C)``, the gradient that arrives.
      method: as in :func:`~stn_jax.sample`.
      axes: of the image.
      wants: whether the image's gradient is wanted, and whether the points' is.
    """
    one = partial(_cotangents, method=method, axes=axes, wants=wants)
    dtypes = [x.dtype for x, want in zip((image, points), wants, strict=True) if want]
    # sums of half precision are made in float32, and rounded once
    precise = promote(out_bar.dtype, points.dtype)
    is_nan = jnp.isnan(points).any(axis=-1, keepdims=True)
    out_bar, points = jnp.where(is_nan, 0, out_bar), jnp.where(is_nan, 0, points)
    arrays = image.astype(precise), points, out_bar.astype(precise)
    numbers = math.prod(out_bar.shape[1:])  # no int where an export leaves it open
    is_large = wants[0] and isinstance(numbers, int) and numbers >= LARGE
    if image.shape[-1] >= WIDE or is_large:
        found = lax.map(lambda arrays: one(*arrays), arrays)
    else:
        found = jax.vmap(one)(*arrays)
    if wants[1]:
        found[-1] = jnp.where(is_nan, 0, found[-1])
    return [x.astype(dtype) for x, dtype in zip(found, dtypes, strict=True)]


def _cotangents(
    image: jax.Array,
    points: jax.Array,
    out_bar: jax.Array,
    *,
    method: str,
    axes: tuple[Axis, ...],
    wants: tuple[bool, bool],
) -> list[jax.Array]:
    """Of one image, with points (M, n)."""
    coordinates = [points[:, -1 - i] for i in range(len(axes))]  # (x, y) backwards
    taps = [a.taps(method, x) for a, x in zip(axes, coordinates, strict=True)]
    found = []
    if wants[0]:
        found.append(_image_bar(image, taps, out_bar))
    if wants[1]:
        slopes = [_slopes(method, a, x) for a, x in zip(axes, coordinates, strict=True)]
        found.append(_points_bar(image, taps, slopes, out_bar))
    return found


def _image_bar(
    image: jax.Array, taps: list[list[tuple]], out_bar: jax.Array
) -> jax.Array:
    """Each point's gradient, added to the pixels it read."""
    total = jnp.zeros_like(image)
    for corner in itertools.product(*taps):
        index, present, weights = zip(*corner, strict=True)
        weight = jnp.where(reduce(and_, present), reduce(mul, weights), 0)
        update = out_bar * weight[:, None].astype(out_bar.dtype)
        total = total.at[index].add(update, mode="promise_in_bounds")
    return total


def _points_bar(
    image: jax.Array,
    taps: list[list[tuple]],
    slopes: list[list[jax.Array]],
    out_bar: jax.Array,
) -> jax.Array:
    """The slopes of the weights, times what the pixels and the gradient share."""
    totals = [jnp.zeros_like(out_bar[:, 0])] * len(taps)
    numbered = [list(enumerate(axis)) for axis in taps]
    for corner in itertools.product(*numbered):
        numbers, entries = zip(*corner, strict=True)
        index, present, weights = zip(*entries, strict=True)
        pixels = image.at[index].get(mode="promise_in_bounds")
        shared = jnp.where(reduce(and_, present), _inner(pixels, out_bar), 0)
        for axis, number in enumerate(numbers):
            factors = [*weights[:axis], slopes[axis][number], *weights[axis + 1 :]]
            slope = reduce(mul, factors).astype(shared.dtype)
            totals[axis] = totals[axis] + slope * shared
    return jnp.stack(totals[::-1], axis=-1)


def _inner(pixels: jax.Array, out_bar: jax.Array) -> jax.Array:
    """The sum over the channels, of pixels that stand in memory: (M,).

    Few channels are added one by one, since XLA's loop over so short an axis is slow;
    it is fast over a longer one, but not while it also gathers.
    """
    pixels = lax.optimization_barrier(pixels)
    if pixels.shape[-1] < WIDE:
        products = (pixels[:, c] * out_bar[:, c] for c in range(pixels.shape[-1]))
        return reduce(add, products, jnp.zeros_like(out_bar[:, 0]))
    return (pixels * out_bar).sum(axis=-1)


def _slopes(method: str, axis: Axis, x: jax.Array) -> list[jax.Array]:
    """The derivatives of the taps' weights at x."""

    def weights(x: jax.Array) -> list[jax.Array]:
        return [weight for *_, weight in axis.taps(method, x)]

    return jax.jvp(weights, (x,), (jnp.ones_like(x),))[1]

"""The cotangents of gathers, written by hand: XLA's CPU backend runs autodiff slowly.

For the sum ``V_p = sum_t w_t(x_p) U[i_t(p)]`` over the taps t of a point p, and the
gradient G of V,

    dU[i] = sum of w_t(x_p) G_p over all p, t with i_t(p) = i,
    dx_p  = sum_t dw_t/dx(x_p) <U[i_t(p)], G_p>.

Autodiff computes the same sums, but keeps all taps of all images in memory at once.
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
from .dispatch import is_channel_by_channel, is_image_by_image
from .plan import Axis, Plan, Tap


def gather_cotangents(
    image: jax.Array,
    points: jax.Array,
    out_bar: jax.Array,
    *,
    plan: Plan,
    needs_grad: tuple[bool, bool],
) -> list[jax.Array]:
    """The gradients of images and points.

    Args:
      image: ``(P, *size, C)``.
      points: ``(P, M, n)``. Points with a NaN contribute nothing and get zero.
      out_bar: ``(P, M, C)``, the gradient of the samples.
      plan: of the call.
      needs_grad: for the images, and for the points.
    """
    one = partial(_cotangents_of_one, plan=plan, needs_grad=needs_grad)
    both = zip((image, points), needs_grad, strict=True)
    dtypes = [array.dtype for array, is_needed in both if is_needed]
    # sums of half precision are made in float32, and rounded once
    precise = promote(out_bar.dtype, points.dtype)
    is_nan = jnp.isnan(points).any(axis=-1, keepdims=True)
    out_bar, points = jnp.where(is_nan, 0, out_bar), jnp.where(is_nan, 0, points)
    arrays = image.astype(precise), points, out_bar.astype(precise)
    if is_image_by_image(image.shape[-1], math.prod(out_bar.shape[1:]), needs_grad[0]):
        found = lax.map(lambda arrays: one(*arrays), arrays)
    else:
        found = jax.vmap(one)(*arrays)
    if needs_grad[1]:
        found[-1] = jnp.where(is_nan, 0, found[-1])
    return [x.astype(dtype) for x, dtype in zip(found, dtypes, strict=True)]


def _cotangents_of_one(
    image: jax.Array,
    points: jax.Array,
    out_bar: jax.Array,
    *,
    plan: Plan,
    needs_grad: tuple[bool, bool],
) -> list[jax.Array]:
    """The gradients of one image and its points ``(M, n)``."""
    taps = plan.taps(points)
    found = []
    if needs_grad[0]:
        found.append(_image_bar(image, taps, out_bar))
    if needs_grad[1]:
        slopes = [
            _slopes(plan, axis, points[:, -1 - i]) for i, axis in enumerate(plan.axes)
        ]
        found.append(_points_bar(image, taps, slopes, out_bar))
    return found


def _image_bar(
    image: jax.Array, taps: list[list[Tap]], out_bar: jax.Array
) -> jax.Array:
    """Each point's gradient, added to the pixels that it was computed from."""
    total = jnp.zeros_like(image)
    for corner in itertools.product(*taps):
        index, exists, weights = zip(*corner, strict=True)
        weight = jnp.where(reduce(and_, exists), reduce(mul, weights), 0)
        update = out_bar * weight[:, None].astype(out_bar.dtype)
        total = total.at[index].add(update, mode="promise_in_bounds")
    return total


def _points_bar(
    image: jax.Array,
    taps: list[list[Tap]],
    slopes: list[list[jax.Array]],
    out_bar: jax.Array,
) -> jax.Array:
    """The slopes of the weights, times the inner products of pixels and gradients."""
    totals = [jnp.zeros_like(out_bar, shape=out_bar.shape[:1])] * len(taps)
    numbered = [list(enumerate(axis)) for axis in taps]
    for corner in itertools.product(*numbered):
        numbers, corner_taps = zip(*corner, strict=True)
        index, exists, weights = zip(*corner_taps, strict=True)
        pixels = image.at[index].get(mode="promise_in_bounds")
        shared = jnp.where(reduce(and_, exists), _inner(pixels, out_bar), 0)
        for axis, number in enumerate(numbers):
            factors = [*weights[:axis], slopes[axis][number], *weights[axis + 1 :]]
            slope = reduce(mul, factors).astype(shared.dtype)
            totals[axis] = totals[axis] + slope * shared
    return jnp.stack(totals[::-1], axis=-1)


def _inner(pixels: jax.Array, out_bar: jax.Array) -> jax.Array:
    """The inner products over the channels: ``(M,)``.

    The barrier keeps the gather out of XLA's loop over the channels, which would
    become slow.
    """
    pixels = lax.optimization_barrier(pixels)
    if is_channel_by_channel(pixels.shape[-1]):
        products = (pixels[:, c] * out_bar[:, c] for c in range(pixels.shape[-1]))
        return reduce(add, products, jnp.zeros_like(pixels, shape=pixels.shape[:1]))
    return (pixels * out_bar).sum(axis=-1)


def _slopes(plan: Plan, axis: Axis, x: jax.Array) -> list[jax.Array]:
    """The derivatives of the taps' weights at x."""

    def weights(x: jax.Array) -> list[jax.Array]:
        return [tap.weight for tap in axis.taps(plan.method, x)]

    return jax.jvp(weights, (x,), (jnp.ones_like(x),))[1]

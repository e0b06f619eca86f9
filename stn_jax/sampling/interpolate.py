"""One image sampled at one grid, or on the grid that a theta describes."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from operator import add, and_, mul, or_
from typing import Any

import jax
import jax.numpy as jnp

from .._checks import promote
from . import dispatch
from .dense import dense_sum
from .gather import gather_sum
from .plan import Plan
from .separable import separable_sum
from .weighted_sum import sum_on_grid, weighted_sum


def interpolate(
    image: jax.Array, grid: jax.Array, fill_value: jax.Array, *, plan: Plan
) -> jax.Array:
    """One image ``(*size, C)`` sampled at one grid ``(*shape, n)``: ``(*shape, C)``."""
    if dispatch.has_primitive(plan):
        image = _before_filling(image, grid.dtype, plan)
        total = weighted_sum(image, grid, plan)
        return finish(total, grid, fill_value, plan, has_nan=True)
    if dispatch.is_in_pairs(plan):
        total = _by_pairs(image, grid, plan)
        return finish(total, grid, fill_value, plan)
    points = jnp.where(jnp.isnan(grid), 0, grid)
    total_of = dense_sum if plan.implementation == "dense" else gather_sum
    return finish(total_of(image, points, plan), grid, fill_value, plan)


def _by_pairs(image: jax.Array, grid: jax.Array, plan: Plan) -> jax.Array:
    """The weighted sum of complex pixels, by that of their real and imaginary parts."""
    pairs = jnp.concatenate([image.real, image.imag], axis=-1)
    plan = replace(plan, dtype=pairs.dtype, implementation="gather")
    real, imaginary = jnp.split(weighted_sum(pairs, grid, plan), 2, axis=-1)
    return jax.lax.complex(real, imaginary)


def interpolate_on_grid(
    image: jax.Array,
    params: jax.Array,
    fill_value: jax.Array,
    *,
    source: Any,
    size: tuple[int, ...],
    plan: Plan,
) -> jax.Array:
    """One image on the grid that one theta describes: what :func:`interpolate` gives
    there, computed without the grid, or by one matrix product for each axis, where that
    is faster. ``params`` is what ``source.points`` takes.
    """
    grid = source.points(params, size, plan.axes[0].align_corners)
    grid = grid.astype(promote(grid.dtype, jnp.finfo(image.dtype).dtype))
    if plan.implementation == "dense":
        total = separable_sum(image, params, size=size, plan=plan)
    else:
        image = _before_filling(image, grid.dtype, plan)
        total = sum_on_grid(image, params, source, size, plan)
    return finish(total, grid, fill_value, plan, has_nan=True)


def _before_filling(image: jax.Array, dtype: jnp.dtype, plan: Plan) -> jax.Array:
    """The image, in the grid's precision if the fill value is to be added to the sum:
    the sum is rounded after that.
    """
    return image.astype(promote(image.dtype, dtype)) if plan.is_filled else image


def finish(
    total: jax.Array,
    grid: jax.Array,
    fill_value: jax.Array,
    plan: Plan,
    *,
    has_nan: bool = False,
) -> jax.Array:
    """The sampled image, from the weighted sum of the image's pixels at a grid.

    Args:
      total: treats taps outside the image as zero.
      grid: where the sum was taken, ``(*shape, n)``.
      fill_value: ``(C,)``.
      plan: its flags say which of the steps below apply.
      has_nan: whether ``total`` is NaN already where the grid is.
    """
    is_nan = jnp.isnan(grid)
    grid = jnp.where(is_nan, 0, grid)
    if plan.is_filled and not plan.is_residual:
        total = _fill(total, grid, fill_value, plan)
    fill = jnp.broadcast_to(fill_value.astype(total.dtype), total.shape)
    if plan.is_residual:
        total = total + fill
    if plan.is_hard:
        inside = [axis.inside(grid[..., -1 - i]) for i, axis in enumerate(plan.axes)]
        total = jnp.where(reduce(and_, inside)[..., None], total, fill)
    if plan.is_hard or not has_nan:
        is_discrete = not jnp.issubdtype(plan.dtype, jnp.inexact)
        blank = fill if is_discrete else jnp.full_like(total, jnp.nan)
        total = jnp.where(is_nan.any(axis=-1, keepdims=True), blank, total)
    return total.astype(plan.dtype)


def _fill(
    total: jax.Array, points: jax.Array, fill_value: jax.Array, plan: Plan
) -> jax.Array:
    """Add the fill value's share: the weights of the taps outside the image."""
    all_weights, pixel_weights, is_cut = [], [], []
    for taps in plan.taps(points):
        all_weights.append(reduce(add, (tap.weight for tap in taps)))
        weights = (jnp.where(tap.exists, tap.weight, 0) for tap in taps)
        pixel_weights.append(reduce(add, weights))
        is_cut.append(reduce(or_, (~tap.exists for tap in taps)))
    share = reduce(mul, all_weights) - reduce(mul, pixel_weights)
    fill = jnp.broadcast_to(fill_value.astype(total.dtype), total.shape)
    filled = total + share[..., None].astype(total.dtype) * fill
    # the where keeps an infinite or NaN fill value out of the points inside
    return jnp.where(reduce(or_, is_cut)[..., None], filled, total)

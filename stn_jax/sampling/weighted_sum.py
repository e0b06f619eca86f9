"""Eq. (3) for one image, by the implementation that suits the platform.

There are two families of primitives: images sampled at points, and images sampled on
the grids that parameters theta describe, which need not be made: the compiled CPU
kernel computes their points as it samples, and a TPU multiplies along each axis if it
can.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from .._checks import promote
from . import cpu, dispatch
from .dense import dense_sum
from .gather import gather_sum
from .gradients import gather_cotangents
from .plan import Plan
from .primitive import (
    Values,
    all_varying,
    lower,
    make_family,
    plain_cotangents,
    plain_values,
)
from .separable import separable_sum


def weighted_sum(image: jax.Array, points: jax.Array, plan: Plan) -> jax.Array:
    """One image ``(*size, C)`` at points ``(*shape, n)``: eq. (3), ``(*shape, C)``.

    Taps outside the image count as zero. A point with a NaN gives NaN. The result has
    the image's dtype.
    """
    *shape, n = points.shape
    if plan.method == "nearest":  # its weight is constant
        points = jax.lax.stop_gradient(points)
    flat = points.reshape(1, math.prod(shape), n)
    arrays = all_varying(image[None], flat)
    (out,) = _AT_POINTS.values.bind(*arrays, plan=plan)
    return out.reshape(*shape, image.shape[-1])


def sum_on_grid(
    image: jax.Array, theta: jax.Array, source: Any, size: tuple[int, ...], plan: Plan
) -> jax.Array:
    """One image ``(*size, C)`` on the grid that ``source`` makes of one theta."""
    if plan.method == "nearest":
        theta = jax.lax.stop_gradient(theta)
    arrays = all_varying(image[None], theta[None, None])
    (out,) = _ON_GRIDS.values.bind(*arrays, plan=plan, size=size, source=source)
    return out[0, 0]


# The definitions


def _at_points(image: jax.Array, points: jax.Array, *, plan: Plan) -> jax.Array:
    """Images ``(P, *size, C)`` at points ``(P, M, n)``: ``(P, M, C)``."""
    total_of = dense_sum if plan.implementation == "dense" else gather_sum

    def one(image: jax.Array, points: jax.Array) -> jax.Array:
        is_nan = jnp.isnan(points).any(axis=-1, keepdims=True)
        out = total_of(image, jnp.where(is_nan, 0, points), plan)
        return jnp.where(is_nan, jnp.nan, out).astype(image.dtype)

    return jax.vmap(one)(image, points)


def _by_grid(
    image: jax.Array,
    theta: jax.Array,
    *,
    plan: Plan,
    size: tuple[int, ...],
    source: Any,
) -> jax.Array:
    """Images on the grids of theta ``(P, M, ...)``: ``(P, M, *size, C)``."""
    corners = plan.axes[0].align_corners
    one = partial(source.points, size=size, align_corners=corners)
    grid = jax.vmap(jax.vmap(one))(theta)
    grid = grid.astype(promote(grid.dtype, image.dtype))
    images, count, *_, n = grid.shape
    points = grid.reshape(images, count * math.prod(size), n)
    (out,) = _AT_POINTS.values.bind(*all_varying(image, points), plan=plan)
    return out.reshape(*grid.shape[:-1], image.shape[-1])


def _by_axes(
    image: jax.Array,
    theta: jax.Array,
    *,
    plan: Plan,
    size: tuple[int, ...],
    source: Any,
) -> jax.Array:
    """The same by one matrix product for each axis."""
    one = partial(separable_sum, size=size, plan=plan)
    out = jax.vmap(jax.vmap(one, in_axes=(None, 0)))(image, theta)
    return out.astype(image.dtype)


# The platforms


def _points_on_cpu(
    plain: Callable,
    fast: Callable,
    compiled: Callable,
    context: Any,
    *arrays: Any,
    plan: Plan,
    **static: Any,
) -> Any:
    """On a CPU gathers run as ``compiled`` if there is a kernel, else as ``fast``."""
    function = plain
    if not dispatch.is_dense("cpu", plan, ()):
        function = compiled if dispatch.has_cpu_kernel(context, plan) else fast
    return lower(function, context, *arrays, plan=plan, **static)


def _points_on_tpu(context: Any, plan: Plan, **_: Any) -> tuple[Values, Plan]:
    _, *size, _ = context.avals_in[0].shape
    is_dense = dispatch.is_dense("tpu", plan, size)
    return _at_points, replace(plan, implementation="dense" if is_dense else "gather")


def _grids_on_cpu(
    plain: Callable, compiled: Callable, context: Any, *arrays: Any, **static: Any
) -> Any:
    """On a CPU the kernel computes the points as it samples; else they come first."""
    is_compiled = dispatch.has_cpu_kernel_of_grids(context, static["plan"])
    return lower(compiled if is_compiled else plain, context, *arrays, **static)


def _grids_on_tpu(context: Any, plan: Plan, *, source: Any, **_: Any) -> Any:
    is_by_axes = dispatch.is_separable("tpu", plan) and source.is_axis_aligned
    return (_by_axes if is_by_axes else _by_grid), plan


_plain_values = partial(plain_values, _at_points)
_plain_cotangents = partial(plain_cotangents, _at_points)
_AT_POINTS = make_family(
    "sample",
    _at_points,
    _points_on_tpu,
    (
        partial(_points_on_cpu, _plain_values, _plain_values, cpu.values),
        None,
        partial(_points_on_cpu, _plain_cotangents, gather_cotangents, cpu.cotangents),
    ),
)
_ON_GRIDS = make_family(
    "sample_on_grid",
    _by_grid,
    _grids_on_tpu,
    (
        partial(_grids_on_cpu, partial(plain_values, _by_grid), cpu.warp_values),
        None,
        partial(
            _grids_on_cpu, partial(plain_cotangents, _by_grid), cpu.warp_cotangents
        ),
    ),
)

"""One image read at one grid, with all that a door promises of it."""

from __future__ import annotations

from functools import reduce
from operator import and_
from typing import Any

import jax
import jax.numpy as jnp

from .._checks import promote
from . import dense
from .gather import add_around, weighted_sum
from .kernels import Kernel
from .plan import Axis
from .primitive import METHODS, read


def interpolate(
    image: jax.Array,
    grid: jax.Array,
    fill: jax.Array,
    *,
    method: str | Kernel,
    axes: tuple[Axis, ...],
    implementation: str | None,
    dtype: jnp.dtype,
    **finishing: Any,
) -> jax.Array:
    """One image read at one grid: eq. (3), summed over the pixels around each point.

    For the options see :func:`finish`, and ``implementation`` in
    :func:`~stn_jax.sample`.
    """
    kernel = {"method": method, "axes": axes}
    finishing |= {"dtype": dtype, **kernel}
    is_real = jnp.issubdtype(dtype, jnp.floating)
    if isinstance(method, str) and method in METHODS and is_real:
        if finishing["is_filled"]:  # the fill is added before the sum is rounded
            image = image.astype(promote(image.dtype, grid.dtype))
        total = read(image, grid, implementation=implementation, **kernel)
        return finish(total, grid, fill, has_nan=True, **finishing)
    points = jnp.where(jnp.isnan(grid), 0, grid)
    if implementation == "dense":
        total = dense.weighted_sum(image, points, **kernel)
    else:
        total = weighted_sum(image, points, **kernel)
    return finish(total, grid, fill, **finishing)


def finish(
    total: jax.Array,
    grid: jax.Array,
    fill: jax.Array,
    *,
    method: str | Kernel,
    axes: tuple[Axis, ...],
    is_filled: bool,
    is_residual: bool,
    is_hard: bool,
    dtype: jnp.dtype,
    has_nan: bool = False,
) -> jax.Array:
    """What an image gives at a grid, of the weighted sum of its pixels there.

    The sum took zeros for what stands where no pixel does. The image is filled where
    the fill may show there, a residual where it holds coefficients of what differs from
    the fill, hard where the fill replaces all that lies outside. The sum may have NaN
    already where the grid has.
    """
    is_nan = jnp.isnan(grid)
    grid = jnp.where(is_nan, 0, grid)
    if is_filled and not is_residual:
        total = add_around(total, grid, fill, method=method, axes=axes)
    fill = jnp.broadcast_to(fill.astype(total.dtype), total.shape)
    if is_residual:
        total = total + fill
    if is_hard:
        within = [axis.inside(grid[..., -1 - i]) for i, axis in enumerate(axes)]
        total = jnp.where(reduce(and_, within)[..., None], total, fill)
    if is_hard or not has_nan:
        is_discrete = not jnp.issubdtype(dtype, jnp.inexact)
        blank = fill if is_discrete else jnp.full_like(total, jnp.nan)
        total = jnp.where(is_nan.any(axis=-1, keepdims=True), blank, total)
    return total.astype(dtype)

"""One image read at one grid, with all that a door promises of it."""

from __future__ import annotations

from functools import reduce
from operator import and_

import jax
import jax.numpy as jnp

from .kernels import Kernel
from .reading import METHODS, read
from .taps import Axis, add_around, weighted_sum


def interpolate(
    image: jax.Array,
    grid: jax.Array,
    fill: jax.Array,
    *,
    method: str | Kernel,
    axes: tuple[Axis, ...],
    is_filled: bool,
    is_residual: bool,
    is_hard: bool,
    dtype: jnp.dtype,
) -> jax.Array:
    """One image read at one grid: eq. (3), summed over the pixels around each point.

    The image is filled where the fill may show, a residual where it holds coefficients
    of what differs from the fill, hard where the fill replaces all that lies outside.
    """
    is_nan = jnp.isnan(grid)
    grid = jnp.where(is_nan, 0, grid)
    is_real = jnp.issubdtype(dtype, jnp.floating)
    if isinstance(method, str) and method in METHODS and is_real:
        total = read(image, grid, method=method, axes=axes)
        if is_filled:
            total = add_around(total, grid, fill, method=method, axes=axes)
    else:
        around = None if is_residual else fill
        total = weighted_sum(image, grid, around, method=method, axes=axes)
    fill = jnp.broadcast_to(fill.astype(total.dtype), total.shape)
    if is_residual:
        total = total + fill
    if is_hard:
        within = [axis.inside(grid[..., -1 - i]) for i, axis in enumerate(axes)]
        total = jnp.where(reduce(and_, within)[..., None], total, fill)
    is_discrete = not jnp.issubdtype(dtype, jnp.inexact)
    blank = fill if is_discrete else jnp.full_like(total, jnp.nan)
    return jnp.where(is_nan.any(axis=-1, keepdims=True), blank, total).astype(dtype)

"""Axis-aligned transformations: one small matrix of weights for each axis.

Where each coordinate of the source hangs on its own axis of the output alone, eq. (3)
is a product of matrices, ``V = K_y U K_x^T``, with ``K[i, m] = k(x_i - m)``.
"""

from __future__ import annotations

from functools import reduce
from operator import and_, or_
from typing import Any

import jax
import jax.numpy as jnp

from .._checks import promote
from ..coordinates import axis_inside, axis_of_centers, axis_to_pixels, center_and_half
from .dense import along, separable_sum
from .interpolate import finish
from .kernels import Kernel, profile
from .plan import Axis


def interpolate_separably(
    image: jax.Array,
    matrix: jax.Array,
    fill: jax.Array,
    *,
    size: tuple[int, ...],
    method: str | Kernel,
    axes: tuple[Axis, ...],
    **finishing: Any,
) -> jax.Array:
    """One image under one axis-aligned matrix: what ``interpolate`` gives on its grid,
    with the same options.
    """
    lines = [reads for _, reads in _lines(matrix, size, axes[0].align_corners)]
    numbers = [jnp.where(jnp.isnan(line), 0, line) for line in lines]
    total = separable_sum(image, numbers, method=method, axes=axes)
    grid = jnp.stack(jnp.meshgrid(*lines, indexing="ij")[::-1], axis=-1)
    return finish(total, grid, fill, method=method, axes=axes, **finishing)


def antialiased(
    image: jax.Array,
    matrix: jax.Array,
    fill: jax.Array,
    *,
    size: tuple[int, ...],
    method: str | Kernel,
    align_corners: bool,
) -> jax.Array:
    """One image under one axis-aligned matrix, its kernels widened where it shrinks.

    As in jax.image: each output pixel is the mean of the image's own pixels, weighted
    by the kernel, which is widened to the distance of neighboring reads where that is
    more than a pixel. Points outside the image read the fill value.
    """
    total = image.astype(promote(image.dtype, matrix.dtype))
    within, nowhere = [], []
    for i, (scale, reads) in enumerate(_lines(matrix, size, align_corners)):
        n = image.shape[i]
        _, half = center_and_half(n, align_corners)
        _, half_out = center_and_half(size[i], align_corners)
        spacing = jnp.abs(scale) * (half / (half_out or 1 / 2))
        total = along(i, _means(reads, spacing, n, method, align_corners), total)
        is_inside = axis_inside(reads, n, align_corners, "normalized")
        others = [a for a in range(len(size) + 1) if a != i]
        within.append(jnp.expand_dims(is_inside, others))
        nowhere.append(jnp.expand_dims(jnp.isnan(reads), others))
    fill = jnp.broadcast_to(fill.astype(total.dtype), total.shape)
    is_read = reduce(and_, within) | reduce(or_, nowhere)  # NaN stays NaN
    return jnp.where(is_read, total, fill).astype(image.dtype)


def _lines(
    matrix: jax.Array, size: tuple[int, ...], align_corners: bool
) -> list[tuple[jax.Array, jax.Array]]:
    """The scale of each axis, in image order, and where it is read, normalized."""
    lines = []
    for i, n in enumerate(size):
        coordinate = len(size) - 1 - i  # the matrix's (x, y) backwards
        scale, shift = matrix[coordinate, coordinate], matrix[coordinate, -1]
        centers = jnp.asarray(axis_of_centers(n, align_corners), matrix.dtype)
        lines.append((scale, scale * centers + shift))
    return lines


def _means(
    reads: jax.Array,
    spacing: jax.Array,
    n: int,
    method: str | Kernel,
    align_corners: bool,
) -> jax.Array:
    """How much each of an axis's n pixels counts at each read: ``(reads, n)``.

    The clip keeps reads from outside, which the fill value replaces, near a pixel.
    """
    x = axis_to_pixels(jnp.clip(reads, -1, 1), n, align_corners)
    width = jnp.where(spacing > 1, spacing, 1)
    pixels = jnp.arange(n, dtype=reads.dtype)
    weights = profile(method, jnp.subtract.outer(x, pixels) / width)
    return weights / weights.sum(axis=1, keepdims=True)

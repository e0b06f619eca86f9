"""Axis-aligned transformations: one matrix product for each axis.

If each source coordinate depends on one output axis only, eq. (3) factorizes into
``V = K_y U K_x^T``, with the weights ``K[i, m] = k(x_i - m)``.
"""

from __future__ import annotations

from functools import reduce
from operator import and_, or_

import jax
import jax.numpy as jnp

from .._checks import promote
from ..coordinates import (
    axis_inside,
    axis_of_centers,
    axis_to_pixels,
    center_and_half,
)
from .dense import axis_weights, contract
from .kernels import Kernel, profile
from .plan import Plan


def separable_sum(
    image: jax.Array, matrix: jax.Array, *, size: tuple[int, ...], plan: Plan
) -> jax.Array:
    """One image on the grid of one axis-aligned matrix: eq. (3), ``(*size, C)``.

    Taps outside the image count as zero. A point with a NaN gives NaN.
    """
    matrix = matrix.astype(promote(matrix.dtype, jnp.finfo(image.dtype).dtype))
    total = image.astype(promote(image.dtype, matrix.dtype))
    is_nan = []
    lines = _lines(matrix, size, plan.axes[0].align_corners)
    for i, (axis, (_, line)) in enumerate(zip(plan.axes, lines, strict=True)):
        numbers = jnp.where(jnp.isnan(line), 0, line)
        total = contract(i, axis_weights(plan.method, axis, numbers), total)
        is_nan.append(_across(i, jnp.isnan(line), len(size)))
    return jnp.where(reduce(or_, is_nan), jnp.nan, total)


def antialiased(
    image: jax.Array,
    params: jax.Array,
    fill_value: jax.Array,
    *,
    size: tuple[int, ...],
    method: str | Kernel,
    align_corners: bool,
) -> jax.Array:
    """One image under one axis-aligned matrix, with kernels widened where it shrinks.

    As in jax.image, each output pixel is a weighted mean of the image's own pixels. The
    kernel is as wide as the distance of neighboring sample points where that is more
    than a pixel. Points outside the image get the fill value.

    Args:
      image: ``(*in_size, C)``.
      params: the matrix, ``(n + 1, n + 1)``.
      fill_value: ``(C,)``.
      size: of the output.
      method: a kernel that has a profile.
      align_corners: as in :func:`~stn_jax.sample`.
    """
    matrix = params.astype(promote(params.dtype, jnp.finfo(image.dtype).dtype))
    total = image.astype(promote(image.dtype, matrix.dtype))
    inside, is_nan = [], []
    for i, (scale, line) in enumerate(_lines(matrix, size, align_corners)):
        n = image.shape[i]
        _, half = center_and_half(n, align_corners)
        _, half_out = center_and_half(size[i], align_corners)
        spacing = jnp.abs(scale) * (half / (half_out or 1 / 2))
        total = contract(i, _means(line, spacing, n, method, align_corners), total)
        is_inside = axis_inside(line, n, align_corners, "normalized")
        inside.append(_across(i, is_inside, len(size)))
        is_nan.append(_across(i, jnp.isnan(line), len(size)))
    fill = jnp.broadcast_to(fill_value.astype(total.dtype), total.shape)
    is_sampled = reduce(and_, inside) | reduce(or_, is_nan)  # NaN stays NaN
    return jnp.where(is_sampled, total, fill).astype(image.dtype)


def _lines(
    matrix: jax.Array, size: tuple[int, ...], align_corners: bool
) -> list[tuple[jax.Array, jax.Array]]:
    """For each axis in image order its scale and its sample points, normalized."""
    lines = []
    for i, n in enumerate(size):
        coordinate = len(size) - 1 - i  # the matrix's (x, y) backwards
        scale, shift = matrix[coordinate, coordinate], matrix[coordinate, -1]
        centers = jnp.asarray(axis_of_centers(n, align_corners), matrix.dtype)
        lines.append((scale, scale * centers + shift))
    return lines


def _across(axis: int, line: jax.Array, ndim: int) -> jax.Array:
    """A line along one axis of the output, of length 1 along the others and C."""
    return jnp.expand_dims(line, [a for a in range(ndim + 1) if a != axis])


def _means(
    line: jax.Array,
    spacing: jax.Array,
    n: int,
    method: str | Kernel,
    align_corners: bool,
) -> jax.Array:
    """The weights of an axis's n pixels at each sample point: ``(points, n)``.

    The clip keeps the weights of points outside finite; the fill value replaces them.
    """
    x = axis_to_pixels(jnp.clip(line, -1, 1), n, align_corners)
    width = jnp.where(spacing > 1, spacing, 1)
    pixels = jnp.arange(n, dtype=line.dtype)
    weights = profile(method, jnp.subtract.outer(x, pixels) / width)
    return weights / weights.sum(axis=1, keepdims=True)

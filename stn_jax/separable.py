"""Axis-aligned transformations: one small matrix of weights for each axis.

Where each coordinate of the source hangs on its own axis of the output alone, eq. (3)
is a product of matrices, ``V = K_y U K_x^T``, with ``K[i, m] = k(x_i - m)``.
"""

from __future__ import annotations

from functools import reduce
from operator import and_, or_

import jax
import jax.numpy as jnp

from .checks import promote
from .coordinates import axis_inside, axis_of_centers, axis_to_pixels, center_and_half
from .kernels import Kernel, profile


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
    for axis, n in enumerate(size):
        coordinate = len(size) - 1 - axis  # the matrix's (x, y) backwards
        scale, shift = matrix[coordinate, coordinate], matrix[coordinate, -1]
        centers = jnp.asarray(axis_of_centers(n, align_corners), matrix.dtype)
        reads = scale * centers + shift
        _, half = center_and_half(image.shape[axis], align_corners)
        _, half_out = center_and_half(n, align_corners)
        spacing = jnp.abs(scale) * (half / (half_out or 1 / 2))
        weights = _weights(reads, spacing, image.shape[axis], method, align_corners)
        total = _contract(weights, total, axis)
        is_inside = axis_inside(reads, image.shape[axis], align_corners, "normalized")
        others = [a for a in range(len(size) + 1) if a != axis]
        within.append(jnp.expand_dims(is_inside, others))
        nowhere.append(jnp.expand_dims(jnp.isnan(reads), others))
    fill = jnp.broadcast_to(fill.astype(total.dtype), total.shape)
    is_read = reduce(and_, within) | reduce(or_, nowhere)  # NaN stays NaN
    return jnp.where(is_read, total, fill).astype(image.dtype)


def _weights(
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


def _contract(weights: jax.Array, image: jax.Array, axis: int) -> jax.Array:
    """The image with an axis replaced by weighted sums along it."""
    weights = weights.astype(image.dtype)
    image = jnp.tensordot(weights, image, (1, axis), precision="highest")
    return jnp.moveaxis(image, 0, axis)

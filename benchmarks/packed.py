"""Bilinear sampling by one gather for each point, of its four neighbors together.

The image is packed first: each entry holds the four pixels of a 2 x 2 window, side by
side in the last axis. scenic's deformable attention samples so on TPUs. The page on
TPUs counts what it would take; the library does not use it.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from stn_jax import to_pixels


def pack(image: jax.Array) -> jax.Array:
    """The 2 x 2 windows of an image with a border of zeros: ``(H + 1, W + 1, 4 C)``."""
    height, width, _ = image.shape
    padded = jnp.pad(image, ((1, 1), (1, 1), (0, 0)))
    shifted = [
        padded[y : y + height + 1, x : x + width + 1] for y in (0, 1) for x in (0, 1)
    ]
    return jnp.concatenate(shifted, axis=-1)


def packed_sample(image: jax.Array, grid: jax.Array) -> jax.Array:
    """``bilinear_sample`` of one image ``(H, W, C)`` at one grid ``(h, w, 2)``."""
    *size, channels = image.shape
    windows = pack(image)
    points = to_pixels(grid, size).reshape(-1, 2)[:, ::-1]  # rows first
    first = jnp.floor(points)
    last = jnp.array(size)
    row, column = jnp.clip(first.astype(int) + 1, 0, last).T
    neighbors = windows.reshape(-1, 4 * channels)[row * windows.shape[1] + column]
    t = points - first
    is_near = ((first >= -1) & (first < last)).all(axis=-1)
    y, x = jnp.where(is_near[:, None], t, 0).T
    top, bottom = jnp.where(is_near, 1 - y, 0), y
    weights = (top * (1 - x), top * x, bottom * (1 - x), bottom * x)
    terms = zip(weights, jnp.split(neighbors, 4, axis=-1), strict=True)
    out = sum(weight[:, None] * pixels for weight, pixels in terms)
    return out.reshape(*grid.shape[:-1], channels)

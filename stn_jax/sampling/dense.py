"""Eq. (3) by matrix products: weigh all pixels instead of looking up a few.

``V = sum_nm U[n, m] k(x - m) k(y - n)`` with a matrix of weights for each axis, one row
for each point. The weights are those of :mod:`stn_jax.sampling.gather`, and zero for
all other pixels. On hardware that gathers slowly and multiplies fast this is faster.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from .._checks import promote
from .kernels import Kernel
from .plan import Axis, Plan


def dense_sum(image: jax.Array, points: jax.Array, plan: Plan) -> jax.Array:
    """One image ``(*size, C)`` at points ``(*shape, n)``: eq. (3), ``(*shape, C)``.

    Taps outside the image count as zero. The last axis is contracted by one matrix
    product. The others are weighted and summed point by point.
    """
    *shape, n = points.shape
    flat = points.reshape(-1, n)
    rows = [
        axis_weights(plan.method, axis, flat[:, -1 - i])
        for i, axis in enumerate(plan.axes)
    ]
    dtype = promote(image.dtype, flat.dtype)
    *others, last = (row.astype(dtype) for row in rows)
    total = jnp.einsum(
        "pw,...wc->p...c", last, image.astype(dtype), precision="highest"
    )
    for row in reversed(others):  # (points, ..., size, C)
        aligned = jnp.expand_dims(row, (*range(1, total.ndim - 2), total.ndim - 1))
        total = (total * aligned).sum(axis=-2)
    return total.reshape(*shape, image.shape[-1])


def axis_weights(method: str | Kernel, axis: Axis, x: jax.Array) -> jax.Array:
    """The weight of each pixel of an axis at coordinates ``(k,)``: ``(k, size)``."""
    taps = axis.taps(method, x)
    total = jnp.zeros((x.shape[0], axis.n + 2 * axis.margin), taps[0].weight.dtype)
    for tap in taps:
        pixels = jnp.arange(total.shape[1], dtype=tap.pixel.dtype)[None]
        counts = (tap.pixel[:, None] == pixels) & tap.exists[:, None]
        total = total + jnp.where(counts, tap.weight[:, None], 0)
    return total


def contract(axis: int, rows: jax.Array, image: jax.Array) -> jax.Array:
    """The image with an axis replaced by its weighted sums, one for each row."""
    out = jnp.tensordot(rows.astype(image.dtype), image, (1, axis), precision="highest")
    return jnp.moveaxis(out, 0, axis)

"""Eq. (3) as products of matrices: all pixels weighted, instead of a few looked up.

``V = sum_nm U[n, m] k(x - m) k(y - n)`` with a matrix of weights along each axis, one
row for each point: the same weights at the same pixels as :mod:`stn_jax.taps`, and zero
elsewhere. Where looking up is slow and multiplying is not, that is the faster way.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from .._checks import promote
from .kernels import Kernel
from .plan import Axis


def weights(method: str | Kernel, axis: Axis, x: jax.Array) -> jax.Array:
    """How much each pixel of an axis counts at coordinates (k,): ``(k, size)``."""
    taps = axis.taps(method, x)
    total = jnp.zeros((x.shape[0], axis.n + 2 * axis.margin), taps[0][2].dtype)
    for index, present, weight in taps:
        pixels = jnp.arange(total.shape[1], dtype=index.dtype)[None]
        is_read = (index[:, None] == pixels) & present[:, None]
        total = total + jnp.where(is_read, weight[:, None], 0)
    return total


def weighted_sum(
    image: jax.Array, points: jax.Array, *, method: str | Kernel, axes: tuple[Axis, ...]
) -> jax.Array:
    """One image ``(*size, C)`` at points ``(*shape, n)``: eq. (3), ``(*shape, C)``,
    with zeros where no pixel is.

    The last axis goes by one product; what it leaves of the others for each point is
    weighted and summed.
    """
    *shape, n = points.shape
    flat = points.reshape(-1, n)
    rows = [weights(method, axis, flat[:, -1 - i]) for i, axis in enumerate(axes)]
    dtype = promote(image.dtype, flat.dtype)
    *others, last = (row.astype(dtype) for row in rows)
    total = jnp.einsum(
        "pw,...wc->p...c", last, image.astype(dtype), precision="highest"
    )
    for row in reversed(others):  # (points, ..., size, C)
        aligned = jnp.expand_dims(row, (*range(1, total.ndim - 2), total.ndim - 1))
        total = (total * aligned).sum(axis=-2)
    return total.reshape(*shape, image.shape[-1])


def separable_sum(
    image: jax.Array,
    lines: list[jax.Array],
    *,
    method: str | Kernel,
    axes: tuple[Axis, ...],
) -> jax.Array:
    """One image at all points whose coordinates are on these lines, one for each axis
    in image order: ``(*(len(line) for line in lines), C)``.
    """
    total = image.astype(promote(image.dtype, lines[0].dtype))
    for i, (axis, line) in enumerate(zip(axes, lines, strict=True)):
        total = along(i, weights(method, axis, line), total)
    return total


def along(axis: int, rows: jax.Array, image: jax.Array) -> jax.Array:
    """The image with an axis replaced by the weighted sums along it."""
    out = jnp.tensordot(rows.astype(image.dtype), image, (1, axis), precision="highest")
    return jnp.moveaxis(out, 0, axis)

"""Projective sampling grids: planes seen in perspective."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import add

import jax
import jax.numpy as jnp

from .._batching import lift
from .._checks import as_coordinates, as_size
from .._types import Size, Theta
from ..coordinates import open_grid
from .affine import AffineSource


def projective_grid(
    theta: Theta, size: Size, *, align_corners: bool = False
) -> jax.Array:
    r"""The sampling grid of a projective transformation.

    A homography, in normalized coordinates:

    .. math:: (u, v, w)^T = \theta \, (x_t, y_t, 1)^T, \quad (x_s, y_s) = (u/w, v/w)

    Matrices that differ by a factor, of either sign, are the same transformation.

    Args:
      theta: ``(*batch, 3, 3)``, or ``(*batch, 4, 4)`` for volumes; maps output to
        input.
      size: of the output, ``(height, width)`` or ``(depth, height, width)``, static.
      align_corners: what -1 and 1 are: the centers of the outermost pixels (True) or
        the edges of the image (False), as in PyTorch.

    Returns:
      ``(*batch, height, width, 2)``, last axis ``(x, y)``, or ``(*batch, depth, height,
      width, 3)``, last axis ``(x, y, z)``, normalized; float32 or better. Where w is
      zero to rounding the point is infinite, which samples the padding, and has no
      gradient.

    Raises:
      TypeError, ValueError: ``theta`` is no such matrix, ``size`` is not positive
        integers, or the two disagree about the number of dimensions.

    >>> theta = jnp.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.5, 0.0, 1.0]])
    >>> projective_grid(theta, (1, 2), align_corners=True)[0, :, 0]
    Array([-2.       ,  0.6666667], dtype=float32)
    """
    theta, size = as_coordinates(theta, "theta"), as_size(size)
    n = len(size) + 1
    if theta.shape[-2:] != (n, n):
        raise ValueError(
            f"theta must be matrices (*batch, {n}, {n}) for size={size}; got shape "
            f"{theta.shape}"
        )
    static = {"size": size, "align_corners": align_corners}
    return lift(_projective_grid, _SIGNATURES[len(size)], static=static, theta=theta)


_SIGNATURES = {2: "(k,k)->(h,w,n)", 3: "(k,k)->(d,h,w,n)"}


def _projective_grid(
    theta: jax.Array, size: tuple[int, ...], align_corners: bool
) -> jax.Array:
    axes = open_grid(size, align_corners=align_corners, dtype=theta.dtype)
    return projective_source(theta, axes, size)


@dataclass(frozen=True)
class ProjectiveSource(AffineSource):
    """How a homography ``(n + 1, n + 1)`` describes the points of a grid."""

    def points(
        self, theta: jax.Array, size: tuple[int, ...], align_corners: bool
    ) -> jax.Array:
        """The grid ``(*size, n)``."""
        return _projective_grid(theta, size, align_corners)


def projective_source(
    theta: jax.Array, coordinates: list[jax.Array], shape: tuple[int, ...]
) -> jax.Array:
    """The source points ``(*shape, n)`` of one matrix at target coordinates, by
    multiplying and adding, which no backend rounds to a few bits.
    """

    def terms(row: jax.Array) -> list[jax.Array]:
        products = [row[i] * x for i, x in enumerate(coordinates)]
        return [jnp.broadcast_to(term, shape) for term in (*products, row[-1])]

    *numerators, w_terms = (terms(row) for row in theta)
    w = reduce(add, w_terms)
    rounding = 4 * jnp.finfo(theta.dtype).eps * reduce(add, map(jnp.abs, w_terms))
    at_infinity = jnp.abs(w) <= rounding
    w = jnp.where(at_infinity, 1, w)  # keeps the division, and its gradient, finite
    source = [reduce(add, row) / w for row in numerators]
    return jnp.stack([jnp.where(at_infinity, jnp.inf, x) for x in source], axis=-1)

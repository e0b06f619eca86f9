"""Affine sampling grids: eq. (1) of Jaderberg et al. (2015)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from .._batching import lift
from .._checks import as_coordinates, as_size
from .._types import Size, Theta
from ..coordinates import axis_of_centers, open_grid


def affine_grid(theta: Theta, size: Size, *, align_corners: bool = False) -> jax.Array:
    r"""The sampling grid of an affine transformation.

    Equation (1) of Jaderberg et al. (2015), from the target's pixels (the output) to
    points of the source (the input), both in normalized coordinates:

    .. math:: (x_s, y_s)^T = \theta \, (x_t, y_t, 1)^T

    Args:
      theta: ``(*batch, 2, 3)``, or ``(*batch, 3, 4)`` for volumes; maps output to
        input, so ``[[1, 0, 0], [0, 1, 0]]`` is the identity and ``[[.5, 0, 0], [0, .5,
        0]]`` zooms in on the center.
      size: of the output, ``(height, width)`` or ``(depth, height, width)``, static.
      align_corners: what -1 and 1 are: the centers of the outermost pixels (True) or
        the edges of the image (False), as in PyTorch.

    Returns:
      ``(*batch, height, width, 2)``, last axis ``(x, y)``, or ``(*batch, depth, height,
      width, 3)``, last axis ``(x, y, z)``, normalized; float32 or better.

    Raises:
      TypeError, ValueError: ``theta`` is no such matrix, ``size`` is not positive
        integers, or the two disagree about the number of dimensions.

    >>> theta = jnp.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.0]])  # to the right
    >>> affine_grid(theta, (1, 2))
    Array([[[0., 0.],
            [1., 0.]]], dtype=float32)
    """
    theta, size = as_coordinates(theta, "theta"), as_size(size)
    n = len(size)
    if theta.shape[-2:] != (n, n + 1):
        raise ValueError(
            f"theta must be matrices (*batch, {n}, {n + 1}) for size={size}; got "
            f"shape {theta.shape}{_remedy(theta.shape, n)}"
        )
    static = {"size": size, "align_corners": align_corners}
    return lift(_affine_grid, _SIGNATURES[n], static=static, theta=theta)


_SIGNATURES = {2: "(n,m)->(h,w,n)", 3: "(n,m)->(d,h,w,n)"}


def _affine_grid(
    theta: jax.Array, size: tuple[int, ...], align_corners: bool
) -> jax.Array:
    axes = open_grid(size, align_corners=align_corners, dtype=theta.dtype)
    return affine_source(theta, axes, size)


@dataclass(frozen=True)
class AffineSource:
    """How affine theta ``(n, n + 1)`` describes the points of a grid."""

    is_axis_aligned: bool = False
    """Whether each source coordinate depends on one output axis only."""

    is_spline: ClassVar[bool] = False
    """Whether the table is a basis, instead of coordinates."""

    def points(
        self, theta: jax.Array, size: tuple[int, ...], align_corners: bool
    ) -> jax.Array:
        """The grid ``(*size, n)``."""
        return _affine_grid(theta, size, align_corners)

    def table(self, size: tuple[int, ...], align_corners: bool) -> np.ndarray:
        """What a sampler needs besides theta: the coordinates of the output's pixels
        along each axis in image order, one axis after the other.
        """
        return np.concatenate([axis_of_centers(n, align_corners) for n in size])


def affine_source(
    theta: jax.Array, coordinates: list[jax.Array], shape: tuple[int, ...]
) -> jax.Array:
    """The source points ``(*shape, n)`` of one matrix at target coordinates.

    We multiply and add: by default, a matrix product on a GPU or TPU would round the
    coordinates to a few bits.
    """
    rows = []
    for row in theta:
        source = row[-1]
        for coefficient, x in zip(row, coordinates, strict=False):
            source = source + coefficient * x
        rows.append(jnp.broadcast_to(source, shape))
    return jnp.stack(rows, axis=-1)


def _remedy(shape: tuple[int, ...], n: int) -> str:
    """How flat parameters or homogeneous matrices become theta."""
    if shape[-1:] == (n * (n + 1),):
        matrices = ", ".join(map(str, (*shape[:-1], n, n + 1)))
        return (
            f". Flat parameters become matrices by .reshape(*batch, {n}, {n + 1}), "
            f"here theta.reshape({matrices})"
        )
    if shape[-2:] == (n + 1, n + 1):
        return (
            ". Of homogeneous matrices take all rows but the last: theta[..., :-1, :]"
        )
    return ""

"""Displacement fields on a lattice."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._batching import lift
from .._checks import as_params, as_points, as_size, promote
from .._types import Params, Size
from ..coordinates import at_finite, identity_grid
from ..sampling import bilinear_sample


@dataclass(frozen=True)
class Displacement:
    """A field of displacements: ``x_s = x_t + d(x_t)``, with d given on a lattice.

    The parameters are the displacements at the lattice's points, normalized, in lattice
    order (row-major), x then y (then z). Between the points d is interpolated
    bilinearly (in volumes trilinearly); beyond the outermost ones it is that of the
    nearest.

    The lattice lies where an image of its shape has its pixels, whatever the size of
    the output: at ``identity_grid(shape, align_corners=align_corners)``. A field of the
    image's size therefore holds the displacement of each pixel, as
    :func:`~stn_jax.flow_grid` takes it in pixels.

    Args:
      shape: ``(rows, columns)`` of the lattice, or ``(layers, rows, columns)`` for
        volumes.
      align_corners: whether the outermost points of the lattice are at -1 and 1 (True),
        as in ``control_lattice(shape)``, or half a cell inside (False). A field of the
        image's size takes the ``align_corners`` of the sampler.

    >>> field = Displacement((2, 2))
    >>> field.num_params
    8
    >>> down = field.identity.at[5].set(0.5)  # y of the third point, lower left
    >>> field.apply(down, jnp.array([[-0.5, 0.5], [0.0, 0.5]]))
    Array([[-0.5 ,  1.  ],
           [ 0.  ,  0.75]], dtype=float32)
    """

    shape: tuple[int, ...]
    align_corners: bool = False

    def __post_init__(self) -> None:
        expected = (
            "shape must be (rows, columns) or (layers, rows, columns) of the lattice, "
            "positive integers"
        )
        object.__setattr__(self, "shape", as_size(self.shape, expected))

    @property
    def ndim(self) -> int:
        """2 for images, 3 for volumes."""
        return len(self.shape)

    @property
    def num_params(self) -> int:
        """P, two or three for each point of the lattice."""
        return self.ndim * math.prod(self.shape)

    @property
    def identity(self) -> jax.Array:
        """No displacement, ``(P,)`` zeros: where a layer starts."""
        return jnp.zeros(self.num_params)

    def grid(
        self, params: Params, size: Size, *, align_corners: bool = False
    ) -> jax.Array:
        """``(*batch, P)`` to sampling grids ``(*batch, *size, ndim)``, normalized.

        ``align_corners`` places the pixels of the output, not the lattice.
        """
        params = as_params(params, self)
        size = as_size(size, ndims=(self.ndim,))
        pixels = identity_grid(size, align_corners=align_corners, dtype=params.dtype)
        moved = self.apply(params, pixels.reshape(-1, self.ndim))
        return moved.reshape(*params.shape[:-1], *size, self.ndim)

    def apply(self, params: Params, points: ArrayLike) -> jax.Array:
        """Map points of the output, ``(*batch, N, ndim)``, to points of the input.

        Both are normalized. Infinite points stay infinite.
        """
        params = as_params(params, self)
        points = as_points(points, "points", (self.ndim,))
        dtype = promote(params.dtype, points.dtype)
        return lift(
            _displaced,
            "(k),(p,n)->(p,n)",
            static={"family": self},
            params=params.astype(dtype),
            points=points.astype(dtype),
        )


def _displaced(params: jax.Array, points: jax.Array, family: Displacement) -> jax.Array:
    field = params.reshape(*family.shape, family.ndim)

    def moved(points: jax.Array) -> jax.Array:
        line = points.reshape(*(1,) * (family.ndim - 1), *points.shape)
        displacements = bilinear_sample(
            field, line, padding_mode="border", align_corners=family.align_corners
        )
        return points + displacements.reshape(points.shape)

    return at_finite(moved, points)

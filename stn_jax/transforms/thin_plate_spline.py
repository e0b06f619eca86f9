"""Thin plate splines through a lattice of control points."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.typing import ArrayLike

from .._checks import as_params, as_points, as_size, promote
from .._types import Params, Size
from ..grids.tps import (
    SplineSource,
    control_lattice,
    lattice_points,
    tps_grid,
    tps_points,
)


@dataclass(frozen=True)
class ThinPlateSpline:
    """A thin plate spline through a lattice of control points.

    The parameters are the points of the input that the lattice's points are mapped to,
    normalized, in lattice order (row-major), x then y (then z).

    Args:
      shape: ``(rows, columns)`` of the lattice, or ``(layers, rows, columns)`` for
        volumes, at least 2 each.
      regularization: as in :func:`~stn_jax.tps_grid`.

    >>> ThinPlateSpline((4, 4)).num_params
    32
    >>> tps = ThinPlateSpline((2, 3))
    >>> tps.grid(tps.identity, (28, 28)).shape
    (28, 28, 2)
    """

    shape: tuple[int, ...] = (4, 4)
    regularization: float = 0.0

    def __post_init__(self) -> None:
        expected = (
            "shape must be (rows, columns) or (layers, rows, columns) of the control "
            "lattice, at least 2 each"
        )
        shape = as_size(self.shape, expected)
        if min(shape) < 2:
            raise ValueError(f"{expected}; got {self.shape!r}")
        object.__setattr__(self, "shape", shape)

    @property
    def ndim(self) -> int:
        """2 for images, 3 for volumes."""
        return len(self.shape)

    @property
    def num_params(self) -> int:
        """P, two or three for each control point."""
        return self.ndim * math.prod(self.shape)

    @property
    def identity(self) -> jax.Array:
        """The control lattice itself, flat, ``(P,)``: where a layer starts."""
        return control_lattice(self.shape).reshape(-1)

    def grid(
        self, params: Params, size: Size, *, align_corners: bool = False
    ) -> jax.Array:
        """``(*batch, P)`` to the sampling grids ``(*batch, *size, ndim)``, normalized;
        see :func:`~stn_jax.tps_grid`.
        """
        return tps_grid(
            self._control_points(params),
            size,
            target_points=lattice_points(self.shape),
            regularization=self.regularization,
            align_corners=align_corners,
        )

    @property
    def source(self) -> SplineSource | None:
        """How a sampler computes the points of a grid from ``theta(params)``; None
        where the regularization is traced.
        """
        if isinstance(self.regularization, Tracer):
            return None
        return SplineSource(self.shape, float(self.regularization))

    def theta(self, params: Params) -> jax.Array:
        """``(*batch, P)`` to control points ``(*batch, ndim, K)``."""
        return jnp.swapaxes(self._control_points(params), -1, -2)

    def apply(self, params: Params, points: ArrayLike) -> jax.Array:
        """Map points of the output, ``(*batch, N, ndim)``, to points of the input.

        Both are normalized. Infinite points stay infinite.
        """
        control, points = self._control_points(params), as_points(points, "points")
        dtype = promote(control.dtype, points.dtype)
        return tps_points(
            control.astype(dtype),
            points.astype(dtype),
            lattice_points(self.shape),
            self.regularization,
        )

    def _control_points(self, params: Params) -> jax.Array:
        params = as_params(params, self)
        return params.reshape(*params.shape[:-1], math.prod(self.shape), self.ndim)

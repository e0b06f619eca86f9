"""Families of transformations: flat parameters, as a network gives them, to grids.

A family is a small frozen dataclass with three members:

- ``num_params``: P, how many numbers describe one transformation;
- ``identity``: the parameters ``(P,)`` that change nothing, where a layer starts;
- ``grid(params, size, *, align_corners=False)``: the sampling grids of ``(*batch, P)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .affine import affine_grid
from .checks import as_coordinates, as_size
from .tps import control_lattice, lattice_points, tps_grid


class Transform(Protocol):
    """What the modules ask of a family; any class that has these members is one."""

    @property
    def num_params(self) -> int:
        """P, how many numbers describe one transformation."""
        ...

    @property
    def identity(self) -> jax.Array:
        """The parameters at which a layer starts, ``(P,)``."""
        ...

    def grid(
        self, params: ArrayLike, size: Sequence[int], *, align_corners: bool = False
    ) -> jax.Array:
        """``(*batch, P)`` to the sampling grids ``(*batch, *size, ndim)``."""
        ...


@dataclass(frozen=True)
class Affine:
    """Any affine transformation: the matrix of :func:`~stn_jax.affine_grid`, row-major.

    Args:
      ndim: 2 for images, with 6 parameters; 3 for volumes, with 12.

    >>> Affine().identity
    Array([1., 0., 0., 0., 1., 0.], dtype=float32)
    >>> Affine().grid(Affine().identity, (28, 28)).shape
    (28, 28, 2)
    """

    ndim: int = 2

    def __post_init__(self) -> None:
        if self.ndim not in (2, 3):
            raise ValueError(f"ndim must be 2 or 3; got {self.ndim!r}")

    @property
    def num_params(self) -> int:
        """6, or 12 in three dimensions."""
        return self.ndim * (self.ndim + 1)

    @property
    def identity(self) -> jax.Array:
        """``[[1, 0, 0], [0, 1, 0]]``, flat: ``(6,)`` or ``(12,)``."""
        return jnp.eye(self.ndim, self.ndim + 1).reshape(-1)

    def grid(
        self, params: ArrayLike, size: Sequence[int], *, align_corners: bool = False
    ) -> jax.Array:
        """``(*batch, P)`` to ``(*batch, *size, ndim)``, normalized; see
        :func:`~stn_jax.affine_grid`.
        """
        params = _as_params(params, self)
        theta = params.reshape(*params.shape[:-1], self.ndim, self.ndim + 1)
        return affine_grid(theta, size, align_corners=align_corners)


@dataclass(frozen=True)
class ThinPlateSpline:
    """A thin plate spline through a lattice of control points.

    The parameters are the positions in the input at which the lattice's points are
    read, normalized, in lattice order (row-major), x then y.

    Args:
      shape: ``(rows, columns)`` of the lattice, at least 2 each.
      regularization: as in :func:`~stn_jax.tps_grid`.

    >>> ThinPlateSpline((4, 4)).num_params
    32
    >>> tps = ThinPlateSpline((2, 3))
    >>> tps.grid(tps.identity, (28, 28)).shape
    (28, 28, 2)
    """

    shape: tuple[int, int] = (4, 4)
    regularization: float = 0.0

    def __post_init__(self) -> None:
        due = "shape must be (rows, columns) of the control lattice, at least 2 each"
        shape = as_size(self.shape, due, ndims=(2,))
        if min(shape) < 2:
            raise ValueError(f"{due}; got {self.shape!r}")
        object.__setattr__(self, "shape", shape)

    @property
    def num_params(self) -> int:
        """Two for each control point."""
        return 2 * self.shape[0] * self.shape[1]

    @property
    def identity(self) -> jax.Array:
        """The control lattice itself, flat: ``(2 * rows * columns,)``."""
        return control_lattice(self.shape).reshape(-1)

    def grid(
        self, params: ArrayLike, size: Sequence[int], *, align_corners: bool = False
    ) -> jax.Array:
        """``(*batch, P)`` to ``(*batch, height, width, 2)``, normalized; see
        :func:`~stn_jax.tps_grid`.
        """
        params = _as_params(params, self)
        return tps_grid(
            params.reshape(*params.shape[:-1], -1, 2),
            size,
            target_points=lattice_points(self.shape),
            regularization=self.regularization,
            align_corners=align_corners,
        )


def _as_params(params: ArrayLike, transform: Transform) -> jax.Array:
    params, due = as_coordinates(params, "params"), transform.num_params
    if params.shape[-1:] != (due,):
        raise ValueError(
            f"params must be (*batch, {due}) for {transform}; got shape {params.shape}"
        )
    return params

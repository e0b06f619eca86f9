"""Families of transformations: flat parameters, as a network gives them, to grids.

A family is a small frozen dataclass. Any class with these three members is one, and
works in the modules and in :func:`~stn_jax.warp`:

- ``num_params``: P, how many numbers describe one transformation;
- ``identity``: the parameters ``(P,)`` that change nothing, where a layer starts;
- ``grid(params, size, *, align_corners=False)``: the sampling grids of ``(*batch, P)``.

The families here have one more, ``apply(params, points)``, for key points and boxes,
and those that are groups of matrices, :class:`Translation`, :class:`Attention`,
:class:`Rigid`, :class:`Similarity`, :class:`Affine` and :class:`Projective`, four:
``matrix(params)`` and ``params(matrix)``, ``inverse(params)`` and ``compose(a, b)``.
A group whose ``is_axis_aligned`` is True can be warped with ``antialias=True``.

All map output to input, in normalized coordinates.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .checks import as_params, as_points, as_size, promote
from .groups import Affine as Affine
from .groups import Attention as Attention
from .groups import Projective as Projective
from .groups import Translation as Translation
from .similarities import Rigid as Rigid
from .similarities import Similarity as Similarity
from .tps import control_lattice, lattice_points, tps_grid, tps_points


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
class ThinPlateSpline:
    """A thin plate spline through a lattice of control points.

    The parameters are the positions in the input at which the lattice's points are
    read, normalized, in lattice order (row-major), x then y (then z).

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
        due = (
            "shape must be (rows, columns) or (layers, rows, columns) of the control "
            "lattice, at least 2 each"
        )
        shape = as_size(self.shape, due)
        if min(shape) < 2:
            raise ValueError(f"{due}; got {self.shape!r}")
        object.__setattr__(self, "shape", shape)

    @property
    def ndim(self) -> int:
        """2 for images, 3 for volumes."""
        return len(self.shape)

    @property
    def num_params(self) -> int:
        """Two, or three, for each control point."""
        return self.ndim * math.prod(self.shape)

    @property
    def identity(self) -> jax.Array:
        """The control lattice itself, flat: ``(P,)``."""
        return control_lattice(self.shape).reshape(-1)

    def grid(
        self, params: ArrayLike, size: Sequence[int], *, align_corners: bool = False
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

    def apply(self, params: ArrayLike, points: ArrayLike) -> jax.Array:
        """Points of the output, ``(*batch, N, ndim)``, to where they are in the input.

        Both normalized; what is infinite stays so.
        """
        control, points = self._control_points(params), as_points(points, "points")
        dtype = promote(control.dtype, points.dtype)
        return tps_points(
            control.astype(dtype),
            points.astype(dtype),
            lattice_points(self.shape),
            self.regularization,
        )

    def _control_points(self, params: ArrayLike) -> jax.Array:
        params = as_params(params, self)
        return params.reshape(*params.shape[:-1], -1, self.ndim)


@dataclass(frozen=True, init=False)
class Chain:
    """Transformations one after the other: ``Chain(a, b)`` is a(b(p)), the picture
    warped by a, then by b.

    The parameters are those of the members, concatenated. All but the last need the
    member ``apply``.

    Args:
      *members: two or more families of the same number of dimensions.

    >>> chain = Chain(Attention(), Rigid())
    >>> chain.identity
    Array([1., 0., 0., 0., 0., 0.], dtype=float32)
    >>> chain.apply(jnp.array([0.5, 0.2, 0.0, 0.0, 0.4, 0.0]), jnp.zeros((1, 2)))
    Array([[0.4, 0. ]], dtype=float32)
    """

    members: tuple[Any, ...]

    def __init__(self, *members: Any) -> None:
        object.__setattr__(self, "members", members)
        if len(members) < 2:
            raise ValueError(f"a chain has two or more members; got {members!r}")
        for member in members[:-1]:
            if not hasattr(member, "apply"):
                raise TypeError(
                    f"{member} lacks apply(params, points): only the last member of a "
                    "chain can do without"
                )
        if len({getattr(member, "ndim", 2) for member in members}) > 1:
            raise ValueError(
                f"the members of a chain must have the same ndim; got {members!r}"
            )

    @property
    def ndim(self) -> int:
        """2 for images, 3 for volumes."""
        return getattr(self.members[0], "ndim", 2)

    @property
    def num_params(self) -> int:
        """The sum of the members'."""
        return sum(member.num_params for member in self.members)

    @property
    def identity(self) -> jax.Array:
        """Those of the members, ``(P,)``."""
        return jnp.concatenate([member.identity for member in self.members])

    def grid(
        self, params: ArrayLike, size: Sequence[int], *, align_corners: bool = False
    ) -> jax.Array:
        """``(*batch, P)`` to sampling grids ``(*batch, *size, ndim)``, normalized."""
        *before, last = self._split(params)
        grid = self.members[-1].grid(last, size, align_corners=align_corners)
        batch = grid.shape[: -self.ndim - 1]
        points = grid.reshape(*batch, -1, self.ndim)
        return self._apply(before, points).reshape(grid.shape)

    def apply(self, params: ArrayLike, points: ArrayLike) -> jax.Array:
        """Points of the output, ``(*batch, N, ndim)``, to where they are in the input,
        both normalized.
        """
        *before, last = self._split(params)
        return self._apply(before, self.members[-1].apply(last, points))

    def _apply(self, before: list[jax.Array], points: jax.Array) -> jax.Array:
        """What all members but the last do to points."""
        for member, params in zip(self.members[-2::-1], before[::-1], strict=True):
            points = member.apply(params, points)
        return points

    def _split(self, params: ArrayLike) -> list[jax.Array]:
        counts = [member.num_params for member in self.members]
        ends = list(itertools.accumulate(counts))[:-1]
        return jnp.split(as_params(params, self), ends, axis=-1)

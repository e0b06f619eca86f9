"""What follows from the matrices of a family: grids, points, inverses, compositions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import ClassVar, Protocol

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._batching import lift
from .._checks import as_coordinates, as_params, as_points, promote
from ..coordinates import at_finite
from ..grids.affine import affine_grid, affine_source


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


class Group:
    """Everything that follows from a family's matrices.

    A family says what the matrix of one transformation is, ``_matrix``, and how its
    parameters are read off it, ``_params``.
    """

    ndim: int

    # whether each coordinate of the source hangs on its own axis of the output alone
    is_axis_aligned: ClassVar[bool] = False

    def _matrix(self, params: jax.Array) -> jax.Array:
        raise NotImplementedError

    def _params(self, matrix: jax.Array) -> jax.Array:
        raise NotImplementedError

    def __post_init__(self) -> None:
        if self.ndim not in (2, 3):
            raise ValueError(f"ndim must be 2 or 3; got {self.ndim!r}")

    @property
    def num_params(self) -> int:
        """P, how many numbers describe one transformation."""
        return self.identity.size

    @property
    def identity(self) -> jax.Array:
        """The parameters ``(P,)`` that change nothing, where a layer starts."""
        return self._params(jnp.eye(self.ndim + 1))

    def grid(
        self, params: ArrayLike, size: Sequence[int], *, align_corners: bool = False
    ) -> jax.Array:
        """``(*batch, P)`` to sampling grids ``(*batch, *size, ndim)``, normalized."""
        theta = self.matrix(params)[..., :-1, :]
        return affine_grid(theta, size, align_corners=align_corners)

    def apply(self, params: ArrayLike, points: ArrayLike) -> jax.Array:
        """Points of the output, ``(*batch, N, ndim)``, to where they are in the input.

        Both normalized; what is infinite stays so. A key point of the input lands in
        the output at ``apply(inverse(params), point)``.
        """
        matrix = self.matrix(params)
        points = as_points(points, "points", (self.ndim,))
        dtype = promote(matrix.dtype, points.dtype)
        return lift(
            _apply,
            "(k,k),(p,n)->(p,n)",
            {"family": self},
            params=matrix.astype(dtype),
            points=points.astype(dtype),
        )

    def _apply(self, matrix: jax.Array, points: jax.Array) -> jax.Array:
        return affine_source(matrix[:-1], list(points.T), points.shape[:1])

    def matrix(self, params: ArrayLike) -> jax.Array:
        """``(*batch, P)`` to homogeneous matrices ``(*batch, ndim + 1, ndim + 1)``."""
        params = as_params(params, self)
        return lift(_matrix, "(p)->(k,k)", {"family": self}, params=params)

    def params(self, matrix: ArrayLike) -> jax.Array:
        """The parameters ``(*batch, P)`` of homogeneous matrices ``(*batch, ndim + 1,
        ndim + 1)``, which must be of the family: what it has no parameter for is lost.
        """
        matrix, n = as_coordinates(matrix, "matrix"), self.ndim + 1
        if matrix.shape[-2:] != (n, n):
            raise ValueError(
                f"matrix must be homogeneous, (*batch, {n}, {n}), for {self}; got "
                f"shape {matrix.shape}"
            )
        return lift(_params, "(k,k)->(p)", {"family": self}, matrix=matrix)

    def inverse(self, params: ArrayLike) -> jax.Array:
        """The parameters of the inverse, input to output; infinite or NaN where there
        is none.
        """
        with jax.default_matmul_precision("highest"):
            return self.params(jnp.linalg.inv(self.matrix(params)))

    def compose(self, a: ArrayLike, b: ArrayLike) -> jax.Array:
        """The parameters of ``a(b(p))``: the picture warped by a, then by b."""
        a, b = self.matrix(a), self.matrix(b)
        dtype = promote(a.dtype, b.dtype)
        a, b = a.astype(dtype), b.astype(dtype)
        return self.params(lift(_product, "(k,k),(k,k)->(k,k)", a=a, b=b))


# what is lifted: one transformation of a family


def _matrix(params: jax.Array, family: Group) -> jax.Array:
    return family._matrix(params)


def _params(matrix: jax.Array, family: Group) -> jax.Array:
    return family._params(matrix)


def _apply(matrix: jax.Array, points: jax.Array, family: Group) -> jax.Array:
    return at_finite(partial(family._apply, matrix), points)


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, precision="highest")


def homogeneous(linear: jax.Array, translation: jax.Array) -> jax.Array:
    """The matrix ``(n + 1, n + 1)`` of p to ``linear p + translation``."""
    above = jnp.concatenate([linear, translation[:, None]], axis=1)
    below = jnp.zeros_like(above[:1]).at[0, -1].set(1)
    return jnp.concatenate([above, below])

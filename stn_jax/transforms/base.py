"""The protocol of families, and what follows from the matrices of a family."""

from __future__ import annotations

from functools import partial
from typing import ClassVar, Protocol

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._batching import lift
from .._checks import as_coordinates, as_params, as_points, promote
from .._types import Params, Size, Theta
from ..coordinates import at_finite
from ..grids.affine import AffineSource, affine_grid, affine_source


class Transform(Protocol):
    """A family of transformations: any class with these members is one."""

    @property
    def num_params(self) -> int:
        """P, the number of parameters of one transformation."""
        ...

    @property
    def identity(self) -> jax.Array:
        """The parameters at which a layer starts, ``(P,)``."""
        ...

    def grid(
        self, params: Params, size: Size, *, align_corners: bool = False
    ) -> jax.Array:
        """``(*batch, P)`` to the sampling grids ``(*batch, *size, ndim)``."""
        ...


class MatrixFamily:
    """A family of transformations that are matrices in homogeneous coordinates.

    A subclass defines the matrix of one transformation, ``_matrix``, and the parameters
    of one matrix, ``_params``. One that defines ``grid`` sets ``source = None``, so
    that :func:`~stn_jax.warp` calls it.
    """

    ndim: int

    # whether each source coordinate depends on one output axis only
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
        """P, the number of parameters of one transformation."""
        return self.identity.size

    @property
    def identity(self) -> jax.Array:
        """The parameters ``(P,)`` of the identity, where a layer starts."""
        return self._params(jnp.eye(self.ndim + 1))

    def grid(
        self, params: Params, size: Size, *, align_corners: bool = False
    ) -> jax.Array:
        """``(*batch, P)`` to sampling grids ``(*batch, *size, ndim)``, normalized."""
        return affine_grid(self.theta(params), size, align_corners=align_corners)

    @property
    def source(self) -> AffineSource:
        """How a sampler computes the points of a grid from ``theta(params)``."""
        return AffineSource(self.is_axis_aligned)

    def theta(self, params: Params) -> jax.Array:
        """``(*batch, P)`` to what ``source`` takes, ``(*batch, ndim, ndim + 1)``."""
        return self.matrix(params)[..., :-1, :]

    def apply(self, params: Params, points: ArrayLike) -> jax.Array:
        """Map points of the output, ``(*batch, N, ndim)``, to points of the input.

        Both are normalized. Infinite points stay infinite. A key point of the input
        lands in the output at ``apply(inverse(params), point)``.
        """
        matrix = self.matrix(params)
        points = as_points(points, "points", (self.ndim,))
        dtype = promote(matrix.dtype, points.dtype)
        return lift(
            _mapped,
            "(k,k),(p,n)->(p,n)",
            static={"family": self},
            params=matrix.astype(dtype),
            points=points.astype(dtype),
        )

    def _apply(self, matrix: jax.Array, points: jax.Array) -> jax.Array:
        return affine_source(matrix[:-1], list(points.T), points.shape[:1])

    def matrix(self, params: Params) -> jax.Array:
        """``(*batch, P)`` to homogeneous matrices ``(*batch, ndim + 1, ndim + 1)``."""
        params = as_params(params, self)
        return lift(_matrix_of, "(p)->(k,k)", static={"family": self}, params=params)

    def params(self, matrix: Theta) -> jax.Array:
        """The parameters ``(*batch, P)`` of homogeneous matrices ``(*batch, ndim + 1,
        ndim + 1)`` of the family. What the family has no parameter for is lost.
        """
        matrix, n = as_coordinates(matrix, "matrix"), self.ndim + 1
        if matrix.shape[-2:] != (n, n):
            raise ValueError(
                f"matrix must be homogeneous, (*batch, {n}, {n}), for {self}; got "
                f"shape {matrix.shape}"
            )
        return lift(_params_of, "(k,k)->(p)", static={"family": self}, matrix=matrix)


class Group(MatrixFamily):
    """A family of matrices that is closed under inversion and composition."""

    def inverse(self, params: Params) -> jax.Array:
        """The parameters of the inverse, input to output; infinite or NaN where there
        is none.
        """
        return inverse(self, params)

    def compose(self, a: Params, b: Params) -> jax.Array:
        """The parameters of ``a(b(p))``: the picture warped by a, then by b."""
        return compose(self, a, b)


def inverse(family: MatrixFamily, params: Params) -> jax.Array:
    """The parameters of the inverse matrices."""
    with jax.default_matmul_precision("highest"):
        return family.params(jnp.linalg.inv(family.matrix(params)))


def compose(family: MatrixFamily, a: Params, b: Params) -> jax.Array:
    """The parameters of the matrix products."""
    a, b = family.matrix(a), family.matrix(b)
    dtype = promote(a.dtype, b.dtype)
    a, b = a.astype(dtype), b.astype(dtype)
    return family.params(lift(_matmul, "(k,k),(k,k)->(k,k)", a=a, b=b))


def homogeneous(linear: jax.Array, translation: jax.Array) -> jax.Array:
    """The matrix ``(n + 1, n + 1)`` of p to ``linear p + translation``."""
    above = jnp.concatenate([linear, translation[:, None]], axis=1)
    below = jnp.zeros_like(above[:1]).at[0, -1].set(1)
    return jnp.concatenate([above, below])


# For one transformation of a family; lifted over leading axes above


def _matrix_of(params: jax.Array, family: MatrixFamily) -> jax.Array:
    return family._matrix(params)


def _params_of(matrix: jax.Array, family: MatrixFamily) -> jax.Array:
    return family._params(matrix)


def _mapped(params: jax.Array, points: jax.Array, family: MatrixFamily) -> jax.Array:
    return at_finite(partial(family._apply, params), points)


def _matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, precision="highest")

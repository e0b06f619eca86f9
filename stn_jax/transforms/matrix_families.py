"""Families of matrices without a parameter for rotation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from .._checks import as_positive
from .._types import Params, Size
from ..grids.projective import ProjectiveSource, projective_grid, projective_source
from .base import Group, MatrixFamily, compose, homogeneous, inverse


@dataclass(frozen=True)
class Translation(Group):
    """Translations: ``(tx, ty)``, or ``(tx, ty, tz)`` in volumes, normalized.

    Args:
      ndim: 2 for images, 3 for volumes.

    >>> Translation().matrix(jnp.array([0.5, 0.0]))
    Array([[1. , 0. , 0.5],
           [0. , 1. , 0. ],
           [0. , 0. , 1. ]], dtype=float32)
    """

    ndim: int = 2

    is_axis_aligned: ClassVar[bool] = True

    def _matrix(self, params: jax.Array) -> jax.Array:
        return homogeneous(jnp.eye(self.ndim, dtype=params.dtype), params)

    def _params(self, matrix: jax.Array) -> jax.Array:
        return matrix[:-1, -1]


@dataclass(frozen=True)
class Attention(MatrixFamily):
    r"""Isotropic scale and translation, the paper's attention: ``(s, tx, ty[, tz])``.

    .. math:: x_s = s \, x_t + t_x, \quad y_s = s \, y_t + t_y

    s < 1 zooms in. With ``isotropic=False`` each axis has its own scale: ``(sx, sy[,
    sz], tx, ty[, tz])``. With a fixed ``scale``, as in the paper's experiments on
    birds, the parameters are ``(tx, ty[, tz])`` alone. These transformations have no
    inverse and no composition among themselves, and no identity: a layer starts at the
    center.

    Args:
      ndim: 2 for images, 3 for volumes.
      scale: a positive number, or None: a parameter.
      isotropic: one scale for all axes, or one for each.

    >>> Attention().identity
    Array([1., 0., 0.], dtype=float32)
    >>> Attention(scale=0.5).matrix(jnp.array([0.2, 0.0]))
    Array([[0.5, 0. , 0.2],
           [0. , 0.5, 0. ],
           [0. , 0. , 1. ]], dtype=float32)
    """

    ndim: int = 2
    scale: float | None = None
    isotropic: bool = True

    is_axis_aligned: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale is not None:
            if not self.isotropic:
                raise ValueError(
                    "isotropic=False makes a parameter of each axis's scale; got "
                    f"scale={self.scale!r}, which fixes them"
                )
            object.__setattr__(self, "scale", as_positive(self.scale, "scale"))

    def _matrix(self, params: jax.Array) -> jax.Array:
        scales, translation = params[: -self.ndim], params[-self.ndim :]
        if self.scale is not None:
            scales = jnp.full_like(translation, self.scale)
        scales = jnp.broadcast_to(scales, translation.shape)
        return homogeneous(jnp.diag(scales), translation)

    def _params(self, matrix: jax.Array) -> jax.Array:
        if self.scale is not None:
            return matrix[:-1, -1]
        scales = jnp.diagonal(matrix)[:-1]
        if self.isotropic:
            scales = scales.mean(keepdims=True)
        return jnp.concatenate([scales, matrix[:-1, -1]])

    def inverse(self, params: Params) -> jax.Array:
        """The parameters of the inverse, input to output, for a free scale."""
        self._check_is_group()
        return inverse(self, params)

    def compose(self, a: Params, b: Params) -> jax.Array:
        """The parameters of ``a(b(p))``, for a free scale."""
        self._check_is_group()
        return compose(self, a, b)

    def _check_is_group(self) -> None:
        if self.scale is not None:
            raise ValueError(
                f"{self} is no group: inverses and compositions have other scales. Use "
                f"Attention(ndim={self.ndim}), whose parameters hold the scale"
            )


@dataclass(frozen=True)
class Affine(Group):
    """All affine transformations: the matrix of :func:`~stn_jax.affine_grid`,
    row-major.

    Args:
      ndim: 2 for images, with 6 parameters; 3 for volumes, with 12.

    >>> Affine().identity
    Array([1., 0., 0., 0., 1., 0.], dtype=float32)
    >>> Affine().grid(Affine().identity, (28, 28)).shape
    (28, 28, 2)
    """

    ndim: int = 2

    def _matrix(self, params: jax.Array) -> jax.Array:
        theta = params.reshape(self.ndim, self.ndim + 1)
        return homogeneous(theta[:, :-1], theta[:, -1])

    def _params(self, matrix: jax.Array) -> jax.Array:
        return matrix[:-1].reshape(-1)


@dataclass(frozen=True)
class Projective(Group):
    """Homographies: the matrix of :func:`~stn_jax.projective_grid`, row-major, without
    its last entry, which is 1.

    Args:
      ndim: 2 for images, with 8 parameters; 3 for volumes, with 15.

    >>> Projective().identity
    Array([1., 0., 0., 0., 1., 0., 0., 0.], dtype=float32)
    >>> corner = jnp.array([[1.0, 1.0]])
    >>> Projective().apply(jnp.array([1, 0, 0, 0, 1, 0, 0.25, 0]), corner)
    Array([[0.8, 0.8]], dtype=float32)
    """

    ndim: int = 2

    def grid(
        self, params: Params, size: Size, *, align_corners: bool = False
    ) -> jax.Array:
        """``(*batch, P)`` to sampling grids ``(*batch, *size, ndim)``, normalized."""
        return projective_grid(self.matrix(params), size, align_corners=align_corners)

    @property
    def source(self) -> ProjectiveSource:
        """How a sampler computes the points of a grid from ``theta(params)``."""
        return ProjectiveSource()

    def theta(self, params: Params) -> jax.Array:
        """``(*batch, P)`` to matrices ``(*batch, ndim + 1, ndim + 1)``."""
        return self.matrix(params)

    def _apply(self, matrix: jax.Array, points: jax.Array) -> jax.Array:
        return projective_source(matrix, list(points.T), points.shape[:1])

    def _matrix(self, params: jax.Array) -> jax.Array:
        entries = jnp.concatenate([params, jnp.ones_like(params[:1])])
        return entries.reshape(self.ndim + 1, self.ndim + 1)

    def _params(self, matrix: jax.Array) -> jax.Array:
        return (matrix / matrix[-1, -1]).reshape(-1)[:-1]

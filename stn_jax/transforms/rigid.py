"""Families of matrices that keep angles: rotations, with and without a scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from .._checks import as_positive
from .base import Group, homogeneous
from .rotations import rotation_matrix, rotation_of


class _Undistorted(Group):
    """A group that keeps angles in pixels, whose sides ``aspect`` describes."""

    aspect: float | tuple[float, float]

    def __post_init__(self) -> None:
        super().__post_init__()
        _sides(self.aspect, self.ndim)  # raises if the two do not fit

    def _normalized(self, linear: jax.Array, translation: jax.Array) -> jax.Array:
        """The normalized matrix of a linear map and a translation in pixels."""
        sides = jnp.array(_sides(self.aspect, self.ndim), linear.dtype)
        return homogeneous(linear * sides[None, :] / sides[:, None], translation)

    def _undistorted(self, matrix: jax.Array) -> jax.Array:
        sides = jnp.array(_sides(self.aspect, self.ndim), matrix.dtype)
        return matrix[:-1, :-1] * sides[:, None] / sides[None, :]


@dataclass(frozen=True)
class Rigid(_Undistorted):
    r"""Rotation and translation: ``(angle, tx, ty)``, in volumes ``(rx, ry, rz, tx, ty,
    tz)`` with a rotation vector: its direction is the axis, its length the angle.

    .. math:: x_s = x_t \cos\alpha - y_t \sin\alpha + t_x, \quad
        y_s = x_t \sin\alpha + y_t \cos\alpha + t_y

    Angles are in radians. y points down and the matrix maps output to input, so that a
    positive angle rotates the picture counter-clockwise. Translations are normalized.

    A rotation in normalized coordinates shears pixels where H != W: with the default
    ``aspect`` this family is rigid in pixels for square images only. With the input's
    aspect it is rigid in pixels while the output has the input's aspect, too. For other
    outputs, :func:`~stn_jax.from_rotation` gives the parameters of ``Affine``.

    Args:
      ndim: 2 for images, 3 for volumes.
      aspect: width / height of the input, in volumes ``(width / height, depth /
        height)``.

    >>> Rigid().matrix(jnp.array([jnp.pi / 3, 0.0, 0.5])).round(2)
    Array([[ 0.5 , -0.87,  0.  ],
           [ 0.87,  0.5 ,  0.5 ],
           [ 0.  ,  0.  ,  1.  ]], dtype=float32)
    """

    ndim: int = 2
    aspect: float | tuple[float, float] = 1.0

    def _matrix(self, params: jax.Array) -> jax.Array:
        rotation = rotation_matrix(params[: -self.ndim])
        return self._normalized(rotation, params[-self.ndim :])

    def _params(self, matrix: jax.Array) -> jax.Array:
        rotation = self._undistorted(matrix)
        return jnp.concatenate([rotation_of(rotation), matrix[:-1, -1]])


@dataclass(frozen=True)
class Similarity(_Undistorted):
    r"""Scale, rotation and translation: ``(s, angle, tx, ty)``, in volumes ``(s, rx,
    ry, rz, tx, ty, tz)``.

    .. math:: x_s = s \, (x_t \cos\alpha - y_t \sin\alpha) + t_x, \quad
        y_s = s \, (x_t \sin\alpha + y_t \cos\alpha) + t_y

    s < 1 zooms in. Units and directions are those of :class:`Rigid`, and so is the
    limit: with the default ``aspect`` pixels are sheared where H != W. With the input's
    aspect angles are kept in pixels while the output has the input's aspect, too. For
    other outputs, :func:`~stn_jax.from_rotation` gives the parameters of ``Affine``.

    Args:
      ndim: 2 for images, 3 for volumes.
      aspect: width / height of the input, in volumes ``(width / height, depth /
        height)``.

    >>> Similarity().identity
    Array([1., 0., 0., 0.], dtype=float32)
    >>> Similarity().inverse(jnp.array([0.5, 0.25, 0.0, 0.0]))[:2].round(2)
    Array([ 2.  , -0.25], dtype=float32)
    """

    ndim: int = 2
    aspect: float | tuple[float, float] = 1.0

    def _matrix(self, params: jax.Array) -> jax.Array:
        linear = params[0] * rotation_matrix(params[1 : -self.ndim])
        return self._normalized(linear, params[-self.ndim :])

    def _params(self, matrix: jax.Array) -> jax.Array:
        linear = self._undistorted(matrix)
        if self.ndim == 2:
            (a, b), (c, d) = linear
            scale = jnp.sqrt((a + d) ** 2 + (c - b) ** 2) / 2
        else:
            scale = jnp.cbrt(jnp.linalg.det(linear))
            linear = linear / scale
        rotation = rotation_of(linear)
        return jnp.concatenate([scale[None], rotation, matrix[:-1, -1]])


def _sides(aspect: Any, ndim: int) -> tuple[float, ...]:
    """The sides of the image in units of its height: (x, y) or (x, y, z)."""
    if ndim == 3 and aspect == 1:
        aspect = (1.0, 1.0)
    ratios = aspect if isinstance(aspect, tuple) else (aspect,)
    if len(ratios) != ndim - 1:
        expected = "width / height" if ndim == 2 else "(width / height, depth / height)"
        raise ValueError(f"aspect must be {expected} for ndim={ndim}; got {aspect!r}")
    x, *z = (as_positive(ratio, "aspect") for ratio in ratios)
    return (x, 1.0, *z)

"""Conversions of matrices: pixels and [-1, 1], align_corners, resolutions, axis orders.

All functions take matrices ``(*batch, n, n + 1)`` or homogeneous ones ``(*batch, n + 1,
n + 1)``, n = 2 or 3, and return the same kind. Pixel coordinates have integers at the
centers of pixels, as in OpenCV, SciPy and :func:`~stn_jax.to_pixels`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ._checks import as_coordinates, as_size, check_choice
from ._types import Size, Theta
from .coordinates import center_and_half


def from_pixel(
    matrix: ArrayLike,
    size: Size,
    output_size: Size | None = None,
    *,
    align_corners: bool = False,
    order: str = "xy",
    direction: str = "backward",
) -> jax.Array:
    """Convert a matrix in pixel coordinates to theta.

    Args:
      matrix: ``(*batch, n, n + 1)`` or ``(*batch, n + 1, n + 1)``, in pixels.
      size: of the input, ``(height, width)`` or ``(depth, height, width)``, static.
      output_size: of the output; that of the input when None.
      align_corners: what -1 and 1 are to be for theta: the centers of the outermost
        pixels (True) or the edges of the image (False).
      order: of the matrix's coordinates: "xy" (or x, y, z), as in OpenCV and kornia, or
        "ij" (rows first), as in SciPy.
      direction: "backward": from pixels of the output to those of the input, as in
        SciPy, or under OpenCV's ``WARP_INVERSE_MAP``; "forward": from input to output,
        as the ``warpAffine`` functions of OpenCV and kornia expect it.

    Returns:
      theta, of the shape of ``matrix``, normalized: for :func:`~stn_jax.affine_grid`
      and :func:`~stn_jax.projective_grid` with the same ``align_corners``.

    Raises:
      TypeError, ValueError: ``matrix`` is no such matrix for this ``size``, an unknown
        ``order`` or ``direction``.

    >>> shift = jnp.array([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])  # one pixel to the right
    >>> from_pixel(shift, (3, 4))
    Array([[1. , 0. , 0.5],
           [0. , 1. , 0. ]], dtype=float32)
    """
    matrix, size, output_size = _checked(matrix, "matrix", size, output_size)
    _check_options(order, direction)
    theta = _homogeneous(matrix)
    if direction == "forward":
        theta = _inverse(theta)
    if order == "ij":
        theta = _reversed(theta)
    theta = _product(
        _to_normalized(size, align_corners),
        theta,
        _to_pixels(output_size, align_corners),
    )
    return theta[..., : matrix.shape[-2], :]


def to_pixel(
    theta: Theta,
    size: Size,
    output_size: Size | None = None,
    *,
    align_corners: bool = False,
    order: str = "xy",
    direction: str = "backward",
) -> jax.Array:
    """Convert theta to a matrix in pixel coordinates: the inverse of
    :func:`from_pixel`.

    Args:
      theta: ``(*batch, n, n + 1)`` or ``(*batch, n + 1, n + 1)``, normalized.
      size: of the input, ``(height, width)`` or ``(depth, height, width)``, static.
      output_size: of the output; that of the input when None.
      align_corners: what -1 and 1 are for theta: the centers of the outermost pixels
        (True) or the edges of the image (False).
      order: of the matrix's coordinates: "xy", as in OpenCV, or "ij", as in SciPy.
      direction: "backward", from output to input, or "forward", from input to output.

    Returns:
      The matrix, of the shape of ``theta``, in pixels. With ``align_corners=True`` an
      output axis of one pixel has a column of zeros: its only pixel is at 0.

    Raises:
      TypeError, ValueError: ``theta`` is no such matrix for this ``size``, an unknown
        ``order`` or ``direction``.

    >>> theta = jnp.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.0]])
    >>> to_pixel(theta, (3, 4))
    Array([[1., 0., 1.],
           [0., 1., 0.]], dtype=float32)
    """
    theta, size, output_size = _checked(theta, "theta", size, output_size)
    _check_options(order, direction)
    matrix = _product(
        _to_pixels(size, align_corners),
        _homogeneous(theta),
        _to_normalized(output_size, align_corners),
    )
    if order == "ij":
        matrix = _reversed(matrix)
    if direction == "forward":
        matrix = _inverse(matrix)
    return matrix[..., : theta.shape[-2], :]


def convert(
    theta: Theta,
    size: Size,
    output_size: Size | None = None,
    *,
    align_corners: bool = False,
    to_size: Size | None = None,
    to_output_size: Size | None = None,
    to_align_corners: bool = False,
) -> jax.Array:
    """Convert theta to another ``align_corners``, or to other resolutions.

    The resolutions are those of the same picture, edge to edge, as ``jax.image.resize``
    makes them. With ``align_corners=False`` theta is the same at all of them.

    Args:
      theta: ``(*batch, n, n + 1)`` or ``(*batch, n + 1, n + 1)``, normalized.
      size: of the input that theta was made for, ``(height, width)`` or ``(depth,
        height, width)``, static.
      output_size: of its output; that of the input when None.
      align_corners: what -1 and 1 are for theta: the centers of the outermost pixels
        (True) or the edges of the image (False).
      to_size: of the input that the result is for; ``size`` when None.
      to_output_size: of its output; when None, ``to_size`` where that is given, else
        ``output_size``.
      to_align_corners: what -1 and 1 are for the result.

    Returns:
      theta, of the same shape, normalized. Exact up to rounding; an axis of one pixel
      has no extent with ``align_corners=True`` and keeps only its center.

    Raises:
      TypeError, ValueError: ``theta`` is no such matrix for these sizes.

    >>> theta = jnp.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.0]])
    >>> convert(theta, (4, 4), to_align_corners=True).round(4)  # 0.5 * 4 / 3
    Array([[1.    , 0.    , 0.6667],
           [0.    , 1.    , 0.    ]], dtype=float32)
    """
    if to_output_size is None:
        to_output_size = to_size if to_size is not None else output_size
    theta, size, output_size = _checked(theta, "theta", size, output_size)
    ndims = (len(size),)
    to_size = size if to_size is None else as_size(to_size, ndims=ndims)
    if to_output_size is None:
        to_output_size = to_size
    else:
        to_output_size = as_size(to_output_size, ndims=ndims)
    to_edges = _between_corners(size, align_corners, False)
    from_edges = _between_corners(output_size, False, align_corners)
    result = _product(
        _between_corners(to_size, False, to_align_corners) @ to_edges,
        _homogeneous(theta),
        from_edges @ _between_corners(to_output_size, to_align_corners, False),
    )
    return result[..., : theta.shape[-2], :]


def _to_pixels(size: tuple[int, ...], align_corners: bool) -> np.ndarray:
    """The matrix from normalized to pixel coordinates, homogeneous, in float64."""
    matrix = np.eye(len(size) + 1)
    for axis, n in enumerate(reversed(size)):
        matrix[axis, -1], matrix[axis, axis] = center_and_half(n, align_corners)
    return matrix


def _to_normalized(size: tuple[int, ...], align_corners: bool) -> np.ndarray:
    matrix = np.eye(len(size) + 1)
    for axis, n in enumerate(reversed(size)):
        center, half = center_and_half(n, align_corners)
        matrix[axis, axis] = 1 / half if half else 0
        matrix[axis, -1] = -center * matrix[axis, axis]
    return matrix


def _between_corners(size: tuple[int, ...], before: bool, after: bool) -> np.ndarray:
    """The matrix from normalized coordinates of one convention to the other's."""
    if before == after:
        return np.eye(len(size) + 1)
    return _to_normalized(size, after) @ _to_pixels(size, before)


def _product(left: np.ndarray, theta: jax.Array, right: np.ndarray) -> jax.Array:
    """The matrix product of all three, in the precision of theta."""
    return jnp.einsum(
        "ij,...jk,kl->...il",
        jnp.asarray(left, theta.dtype),
        theta,
        jnp.asarray(right, theta.dtype),
        precision="highest",
    )


def _inverse(matrix: jax.Array) -> jax.Array:
    with jax.default_matmul_precision("highest"):
        return jnp.linalg.inv(matrix)


def _reversed(matrix: jax.Array) -> jax.Array:
    """Reverse the order of the coordinates, in rows and in columns."""
    *axes, one = range(matrix.shape[-1])
    order = np.array([*reversed(axes), one])
    return matrix[..., order, :][..., order]


def _homogeneous(matrix: jax.Array) -> jax.Array:
    if matrix.shape[-2] == matrix.shape[-1]:
        return matrix
    below = jnp.zeros_like(matrix[..., :1, :]).at[..., -1].set(1)
    return jnp.concatenate([matrix, below], axis=-2)


def _checked(
    matrix: ArrayLike,
    name: str,
    size: Size,
    output_size: Size | None,
) -> tuple[jax.Array, tuple[int, ...], tuple[int, ...]]:
    matrix, size = as_coordinates(matrix, name), as_size(size)
    n = len(size)
    if matrix.shape[-2:] not in ((n, n + 1), (n + 1, n + 1)):
        raise ValueError(
            f"{name} must be (*batch, {n}, {n + 1}) or (*batch, {n + 1}, {n + 1}) for "
            f"size={size}; got shape {matrix.shape}"
        )
    if output_size is None:
        return matrix, size, size
    return matrix, size, as_size(output_size, ndims=(n,))


def _check_options(order: str, direction: str) -> None:
    check_choice("order", order, ("xy", "ij"))
    check_choice("direction", direction, ("backward", "forward"))

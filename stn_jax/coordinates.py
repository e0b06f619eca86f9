"""Pixel and normalized coordinates: here alone it is decided what align_corners means.

Along an axis of n pixels, pixel i has its center at the pixel coordinate i, and

    pixel = center + half * normalized,    center = (n - 1) / 2,

where half is n / 2 with ``align_corners=False`` (-1 and 1 are the outer edges of the
image) and (n - 1) / 2 with ``align_corners=True`` (-1 and 1 are the centers of the
first and the last pixel). Sizes are in image order, (height, width) or (depth, height,
width); points are (x, y) or (x, y, z).
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from ._checks import as_coordinates, as_size, check_choice
from ._types import Grid, Size


def identity_grid(
    size: Size,
    *,
    align_corners: bool = False,
    dtype: DTypeLike | None = None,
) -> jax.Array:
    """The identity grid: the center of each pixel, normalized.

    An image of this size, sampled on it, is the image itself.

    Args:
      size: ``(height, width)`` or ``(depth, height, width)``, static.
      align_corners: what -1 and 1 are: the centers of the outermost pixels (True) or
        the edges of the image (False), as in PyTorch.
      dtype: of the result; JAX's default float when None.

    Returns:
      ``(height, width, 2)``, last axis ``(x, y)``, or ``(depth, height, width, 3)``,
      last axis ``(x, y, z)``, normalized.

    Raises:
      TypeError, ValueError: ``size`` is not two or three positive integers.

    >>> identity_grid((1, 4))[0, :, 0]
    Array([-0.75, -0.25,  0.25,  0.75], dtype=float32)
    >>> identity_grid((1, 3), align_corners=True)[0, :, 0]
    Array([-1.,  0.,  1.], dtype=float32)
    """
    size = as_size(size)
    axes = open_grid(size, align_corners=align_corners, dtype=dtype)
    return jnp.stack([jnp.broadcast_to(axis, size) for axis in axes], axis=-1)


def to_pixels(grid: Grid, size: Size, *, align_corners: bool = False) -> jax.Array:
    r"""Convert normalized to pixel coordinates (an integer is a pixel's center).

    Along an axis of n pixels, the normalized coordinate g is at the pixel coordinate

    .. math:: \frac{(g + 1) \, n - 1}{2}, \quad
        \text{with align\_corners: } \frac{(g + 1)(n - 1)}{2}

    Args:
      grid: ``(..., 2)``, last axis ``(x, y)``, or ``(..., 3)``, last axis
        ``(x, y, z)``, normalized.
      size: of the image they point into, ``(height, width)`` or ``(depth, height,
        width)``, static.
      align_corners: as in :func:`identity_grid`.

    Returns:
      The same shape, in pixels, in float32 or better. On an axis of one pixel with
      ``align_corners=True`` every finite coordinate is 0.

    Raises:
      TypeError, ValueError: ``size`` is not positive integers, one for each coordinate.

    >>> to_pixels(jnp.array([-1.0, 1.0]), (3, 4))
    Array([-0.5,  2.5], dtype=float32)
    >>> to_pixels(jnp.array([-1.0, 1.0]), (3, 4), align_corners=True)
    Array([0., 2.], dtype=float32)
    """
    return _along_axes(axis_to_pixels, grid, size, align_corners, "grid")


def to_normalized(
    points: ArrayLike, size: Size, *, align_corners: bool = False
) -> jax.Array:
    """Convert pixel to normalized coordinates: the inverse of :func:`to_pixels`.

    Args:
      points: ``(..., 2)``, last axis ``(x, y)``, or ``(..., 3)``, last axis
        ``(x, y, z)``, in pixels.
      size: of the image they point into, ``(height, width)`` or ``(depth, height,
        width)``, static.
      align_corners: as in :func:`identity_grid`.

    Returns:
      The same shape, normalized, in float32 or better. On an axis of one pixel with
      ``align_corners=True`` every finite point is 0.

    Raises:
      TypeError, ValueError: ``size`` is not positive integers, one for each coordinate.

    >>> to_normalized(jnp.array([-0.5, 1.0]), (3, 4))
    Array([-1.,  0.], dtype=float32)
    """
    return _along_axes(_axis_to_normalized, points, size, align_corners, "points")


def inside(
    grid: Grid,
    size: Size,
    *,
    align_corners: bool = False,
    coordinates: str = "normalized",
) -> jax.Array:
    """Mark the points of a grid that are inside the image.

    Args:
      grid: ``(..., 2)``, last axis ``(x, y)``, or ``(..., 3)``, last axis
        ``(x, y, z)``.
      size: of the image they point into, ``(height, width)`` or ``(depth, height,
        width)``, static.
      align_corners: where the image ends: at the centers of its outermost pixels (True)
        or at its edges, half a pixel farther out (False). Both are -1 and 1 in
        normalized coordinates.
      coordinates: of the grid: "normalized", or "pixel": integers are pixels' centers.

    Returns:
      Booleans ``(...)``. The boundary is inside, NaN is outside.

    Raises:
      TypeError, ValueError: ``size`` is not positive integers, one for each coordinate;
        ``coordinates`` is unknown.

    >>> inside(jnp.array([[1.0, 0.0], [1.1, 0.0]]), (3, 4))
    Array([ True, False], dtype=bool)
    >>> inside(jnp.array([[3.5, 0.0], [3.6, 0.0]]), (3, 4), coordinates="pixel")
    Array([ True, False], dtype=bool)
    """
    check_choice("coordinates", coordinates, COORDINATES)

    def one(x: jax.Array, n: int, align_corners: bool) -> jax.Array:
        return axis_inside(x, n, align_corners, coordinates)

    return _along_axes(one, grid, size, align_corners, "grid").all(axis=-1)


COORDINATES = ("normalized", "pixel")


def axis_inside(
    x: jax.Array, n: int, align_corners: bool, coordinates: str
) -> jax.Array:
    """Whether points are inside along an axis of ``n`` pixels."""
    if coordinates == "normalized":
        return jnp.abs(x) <= 1
    center, half = center_and_half(n, align_corners)
    return (x >= center - half) & (x <= center + half)


def open_grid(
    size: tuple[int, ...], *, align_corners: bool, dtype: DTypeLike | None = None
) -> list[jax.Array]:
    """x, y(, z) of the identity grid, each of length 1 along the axes it ignores."""
    lines = [axis_of_centers(n, align_corners) for n in size]
    axes = np.meshgrid(*lines, indexing="ij", sparse=True)
    dtype = float if dtype is None else dtype
    return [jnp.asarray(axis, dtype) for axis in reversed(axes)]


def axis_of_centers(n: int, align_corners: bool) -> np.ndarray:
    """The centers of an axis's ``n`` pixels, normalized, in float64."""
    center, half = center_and_half(n, align_corners)
    return (np.arange(n) - center) / (half or 1)


def axis_to_pixels(x: jax.Array, n: int, align_corners: bool) -> jax.Array:
    """Convert normalized coordinates on an axis of ``n`` pixels to pixels."""
    center, half = center_and_half(n, align_corners)
    return keep_infinite(x, x * half + center, half)


def at_finite(
    function: Callable[[jax.Array], jax.Array], points: jax.Array
) -> jax.Array:
    """Apply a function of points ``(..., n)``, but keep infinite points infinite.

    They get no gradient: the inner where keeps 0 * inf out of it.
    """
    is_infinite = jnp.isinf(points).any(-1, keepdims=True)
    is_infinite &= ~jnp.isnan(points).any(-1, keepdims=True)
    out = function(jnp.where(is_infinite, 0, points))
    return jnp.where(is_infinite, jnp.inf, out)


def axis_displacement(d: jax.Array, n: int, align_corners: bool) -> jax.Array:
    """Convert displacements on an axis of ``n`` pixels from pixels to normalized."""
    _, half = center_and_half(n, align_corners)
    return d / half if half else d * 0


def _axis_to_normalized(x: jax.Array, n: int, align_corners: bool) -> jax.Array:
    center, half = center_and_half(n, align_corners)
    return keep_infinite(x, (x - center) / half if half else x * 0, half)


def center_and_half(n: int, align_corners: bool) -> tuple[float, float]:
    """The center of an axis of ``n`` pixels and half its extent, in pixels."""
    return (n - 1) / 2, ((n - 1) if align_corners else n) / 2


def keep_infinite(x: jax.Array, converted: jax.Array, half: float) -> jax.Array:
    """Undo the conversion of infinite coordinates on an axis without extent, where
    they would become infinity times zero, NaN.
    """
    return converted if half else jnp.where(jnp.isinf(x), x, converted)


def _along_axes(
    convert: Callable[[jax.Array, int, bool], jax.Array],
    points: ArrayLike,
    size: Size,
    align_corners: bool,
    name: str,
) -> jax.Array:
    """Apply ``convert`` to each coordinate, with the length of its axis."""
    points, size = as_coordinates(points, name), as_size(size)
    if points.ndim < 1 or points.shape[-1] != len(size):
        raise ValueError(
            f"{name} must end in one coordinate for each axis of size={size}, shape "
            f"(..., {len(size)}); got shape {points.shape}"
        )
    columns = [
        convert(points[..., axis], n, align_corners)
        for axis, n in enumerate(reversed(size))
    ]
    return jnp.stack(columns, axis=-1)

"""Rotations, zooms and flips in pixels, for images of any proportions."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from ._batching import lift
from ._checks import as_coordinates, as_size, promote
from ._types import Size
from .matrices import from_pixel
from .transforms.rotations import rotation_matrix


def from_rotation(
    angle: ArrayLike,
    size: Size,
    output_size: Size | None = None,
    *,
    zoom: ArrayLike = 1.0,
    center: ArrayLike | None = None,
    align_corners: bool = False,
) -> jax.Array:
    """The theta of a rotation in pixels, with a zoom or a flip, about a point.

    A pixel stays a pixel: the image is rotated without shear, whatever the proportions
    of input and output. It is first zoomed along its own axes, then rotated.

    Args:
      angle: ``(*batch,)``, in radians; a positive one rotates the picture
        counter-clockwise. In volumes rotation vectors ``(*batch, 3)``, (x, y, z), whose
        direction is the axis and whose length the angle.
      size: of the input, ``(height, width)`` or ``(depth, height, width)``, static.
      output_size: of the output, static; that of the input when None.
        :func:`rotated_size` gives one that holds the whole picture.
      zoom: the magnification: 2 makes the picture twice as large. A number, or one for
        each axis, ``(*batch, n)``, (x, y) or (x, y, z); a negative one mirrors the
        axis.
      center: the point that keeps its place, in pixels, ``(*batch, n)``, (x, y) or (x,
        y, z). When None, the center of the input becomes that of the output.
      align_corners: what -1 and 1 are to be for theta: the centers of the outermost
        pixels (True) or the edges of the image (False).

    Returns:
      theta, ``(*batch, 2, 3)`` or ``(*batch, 3, 4)``, normalized: for
      :func:`~stn_jax.affine_grid` with the same ``align_corners``, and flat for
      ``Affine``.

    Raises:
      TypeError, ValueError: sizes that are not positive integers; an ``angle``,
        ``zoom`` or ``center`` of another shape; a zoom of 0.

    >>> from stn_jax import warp
    >>> from stn_jax.transforms import Affine
    >>> image = jnp.arange(6.0).reshape(2, 3, 1)
    >>> size = rotated_size(jnp.pi / 2, (2, 3))
    >>> theta = from_rotation(jnp.pi / 2, (2, 3), size)
    >>> warp(image, Affine(), theta.reshape(6), size)[..., 0].round()
    Array([[2., 5.],
           [1., 4.],
           [0., 3.]], dtype=float32)
    >>> from_rotation(0.0, (2, 3), zoom=jnp.array([-1.0, 1.0]))  # a flip
    Array([[-1.,  0.,  0.],
           [ 0.,  1.,  0.]], dtype=float32)
    """
    size = as_size(size)
    n = len(size)
    output_size = size if output_size is None else as_size(output_size, ndims=(n,))
    angle, zoom = _as_rotation(angle, zoom, n)
    if center is None:
        point, moved = (_center(s, angle.dtype) for s in (size, output_size))
    else:
        point = moved = _as_axes(center, "center", n)
    dtype = promote(promote(angle.dtype, zoom.dtype), point.dtype)
    matrix = lift(
        _about,
        "(a),(n),(n),(n)->(n,m)",
        angle=angle.astype(dtype),
        zoom=zoom.astype(dtype),
        center=point.astype(dtype),
        output_center=moved.astype(dtype),
    )
    return from_pixel(matrix, size, output_size, align_corners=align_corners)


def rotated_size(
    angle: ArrayLike, size: Size, *, zoom: ArrayLike = 1.0
) -> tuple[int, ...]:
    """The size that holds a whole rotated image, as in ``scipy.ndimage.rotate``.

    Args:
      angle: in radians, a number; in volumes a rotation vector ``(3,)``. Known when
        tracing.
      size: of the image, ``(height, width)`` or ``(depth, height, width)``, static.
      zoom: as in :func:`from_rotation`, a number or ``(n,)``. Known when tracing.

    Returns:
      The lengths of the rotated image along each axis, rounded to whole pixels:
      ``(height, width)`` or ``(depth, height, width)``.

    Raises:
      TypeError: an angle or zoom that is traced.
      ValueError: several angles; a ``size`` that is not positive integers.

    >>> rotated_size(jnp.pi / 2, (80, 40))
    (40, 80)
    >>> rotated_size(jnp.pi / 4, (80, 40))
    (85, 85)
    """
    size = as_size(size)
    for name, value in (("angle", angle), ("zoom", zoom)):
        if isinstance(value, Tracer):
            raise TypeError(f"{name} must be known when tracing; got {value!r}")
    with jax.ensure_compile_time_eval():
        rotation, factors = _as_rotation(angle, zoom, len(size))
        if rotation.ndim > 1 or factors.ndim > 1:
            raise ValueError(
                "one size is for one rotation; got angle of shape "
                f"{np.shape(angle)}, zoom of shape {np.shape(zoom)}"
            )
        forward = np.linalg.inv(np.asarray(_linear(rotation, factors), float))
    lengths = np.abs(forward) @ size[::-1]  # (x, y) or (x, y, z)
    return tuple(max(1, int(length + 0.5)) for length in lengths[::-1])


def _about(
    angle: jax.Array, zoom: jax.Array, center: jax.Array, output_center: jax.Array
) -> jax.Array:
    """The matrix in pixels, output to input, of one rotation: ``(n, n + 1)``."""
    linear = _linear(angle, zoom)
    shift = center - (linear * output_center[None]).sum(axis=1)
    return jnp.concatenate([linear, shift[:, None]], axis=1)


def _linear(angle: jax.Array, zoom: jax.Array) -> jax.Array:
    return rotation_matrix(angle) / zoom[:, None]


def _center(size: tuple[int, ...], dtype: Any) -> jax.Array:
    return jnp.array([(n - 1) / 2 for n in reversed(size)], dtype)


def _as_rotation(angle: Any, zoom: Any, n: int) -> tuple[jax.Array, jax.Array]:
    """Angles ``(*batch, 1)`` or rotation vectors, and zooms ``(*batch, n)``."""
    if n == 2:
        angle = as_coordinates(angle, "angle")[..., None]
    else:
        angle = _as_axes(angle, "angle", 3)
    if np.ndim(zoom) == 0:
        zoom = jnp.broadcast_to(jnp.asarray(zoom, angle.dtype), (n,))
    zoom = _as_axes(zoom, "zoom", n)
    if not isinstance(zoom, Tracer) and np.any(np.asarray(zoom) == 0):
        raise ValueError("zoom must not be 0")
    return angle, zoom


def _as_axes(values: Any, name: str, n: int) -> jax.Array:
    array = as_coordinates(values, name)
    if array.shape[-1:] != (n,):
        raise ValueError(
            f"{name} must be (*batch, {n}), one number for each axis; got shape "
            f"{array.shape}"
        )
    return array

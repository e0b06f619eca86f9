"""Boxes in pixels to the parameters of windows, and back."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from .._batching import lift
from .._checks import as_coordinates, as_params, as_size
from .._types import Params, Size
from ..coordinates import center_and_half
from .matrix_families import Attention


def from_boxes(
    transform: Attention,
    boxes: ArrayLike,
    size: Size,
    *,
    align_corners: bool = False,
) -> jax.Array:
    """The parameters of the windows that crop boxes.

    A box is given by its edges, in pixels, as in slicing: ``(y0, x0, y1, x1)`` holds
    the pixels of ``image[y0:y1, x0:x1]``, and ``(0, 0, H, W)`` is the whole image.
    Fractions are places within a pixel, whose center is at 1/2. A warp of its own size
    gives the slice; one of another size resizes it. The pixels around the box are those
    of the image. A box with ``x1 < x0`` is mirrored.

    ``Attention(isotropic=False)`` crops the box itself. ``Attention()``, whose windows
    have the proportions of the image, crops the smallest such window around the box,
    with the same center.

    Args:
      transform: ``Attention(isotropic=False)`` or ``Attention()``, in volumes with
        ``ndim=3``.
      boxes: ``(*batch, 4)``, ``(y0, x0, y1, x1)``, or ``(*batch, 6)``, ``(z0, y0, x0,
        z1, y1, x1)``, in pixels of the input.
      size: of the input, ``(height, width)`` or ``(depth, height, width)``, static.
      align_corners: that of the warp. With False the edges of the output are those of
        the box, as in RoIAlign. With True the centers of the outermost pixels of the
        output are those of the box, as in TensorFlow's ``crop_and_resize``.

    Returns:
      The parameters ``(*batch, P)`` for :func:`~stn_jax.warp`, normalized.

    Raises:
      TypeError: a ``transform`` that is no ``Attention``.
      ValueError: one with a fixed scale; boxes or a size of other dimensions.

    >>> from stn_jax import warp
    >>> image = jnp.arange(48.0).reshape(6, 8, 1)
    >>> family = Attention(isotropic=False)
    >>> boxes = jnp.array([[1, 2, 4, 4], [0, 0, 6, 8]])
    >>> params = from_boxes(family, boxes, (6, 8))
    >>> crops = warp(image, family, params, (3, 2))  # both resized to 3 x 2
    >>> bool(jnp.allclose(crops[0], image[1:4, 2:4], atol=1e-5))
    True
    >>> images = jnp.stack([image, image])  # two boxes of each of two images
    >>> warp(images[:, None], family, params[None], (3, 2)).shape
    (2, 2, 3, 2, 1)
    """
    _check_attention(transform)
    if transform.scale is not None:
        raise ValueError(
            f"boxes have sizes, and the scale of {transform} is fixed. Use "
            f"Attention(ndim={transform.ndim}, isotropic=False)"
        )
    boxes = as_coordinates(boxes, "boxes")
    n = transform.ndim
    if boxes.shape[-1:] != (2 * n,):
        axes = "zyx"[-n:]
        edges = ", ".join(f"{axis}{end}" for end in "01" for axis in axes)
        raise ValueError(
            f"boxes must be (*batch, {2 * n}), ({edges}), for {transform}; got shape "
            f"{boxes.shape}"
        )
    static = {
        "family": transform,
        "size": as_size(size, ndims=(n,)),
        "align_corners": align_corners,
    }
    return lift(_params_of_box, "(b)->(p)", static=static, boxes=boxes)


def to_boxes(
    transform: Attention,
    params: Params,
    size: Size,
    *,
    align_corners: bool = False,
) -> jax.Array:
    """The boxes that windows crop: the inverse of
    :func:`~stn_jax.transforms.from_boxes`.

    Args:
      transform: an ``Attention``, also one with a fixed scale.
      params: ``(*batch, P)``, normalized.
      size: of the input, ``(height, width)`` or ``(depth, height, width)``, static.
      align_corners: that of the warp.

    Returns:
      ``(*batch, 4)``, ``(y0, x0, y1, x1)``, or ``(*batch, 6)``, ``(z0, y0, x0, z1, y1,
      x1)``: the edges of the boxes, in pixels of the input.

    Raises:
      TypeError: a ``transform`` that is no ``Attention``.
      ValueError: parameters or a size of other dimensions.

    >>> from stn_jax.transforms import tiles
    >>> halves = tiles(Attention(scale=0.5), (1, 2))
    >>> to_boxes(Attention(scale=0.5), halves, (100, 200))
    Array([[ 25.,   0.,  75., 100.],
           [ 25., 100.,  75., 200.]], dtype=float32)
    """
    _check_attention(transform)
    static = {
        "family": transform,
        "size": as_size(size, ndims=(transform.ndim,)),
        "align_corners": align_corners,
    }
    params = as_params(params, transform)
    return lift(_box_of_params, "(p)->(b)", static=static, params=params)


def _check_attention(transform: Any) -> None:
    if not isinstance(transform, Attention):
        raise TypeError(
            "transform must be Attention(isotropic=False) or another Attention; got "
            f"{transform!r}"
        )


# For one box; lifted over leading axes above


def _params_of_box(
    boxes: jax.Array, family: Attention, size: tuple[int, ...], align_corners: bool
) -> jax.Array:
    low, high = jnp.flip(boxes.reshape(2, -1), axis=-1)  # (x, y) or (x, y, z)
    centers, halves, margin = _extent(size, align_corners)
    halves = np.where(halves == 0, 1, halves)  # an axis of one pixel has no extent
    centers, halves = (jnp.asarray(x, boxes.dtype) for x in (centers, halves))
    scales = (high - low - margin) / 2 / halves
    if family.isotropic:
        scales = jnp.abs(scales).max(keepdims=True)
    return jnp.concatenate([scales, ((low + high - 1) / 2 - centers) / halves])


def _box_of_params(
    params: jax.Array, family: Attention, size: tuple[int, ...], align_corners: bool
) -> jax.Array:
    matrix = family.matrix(params)
    centers, halves, margin = _extent(size, align_corners)
    centers, halves = (jnp.asarray(x, params.dtype) for x in (centers, halves))
    middle = matrix[:-1, -1] * halves + centers + 1 / 2
    half = jnp.diagonal(matrix)[:-1] * halves + margin / 2
    return jnp.concatenate([jnp.flip(middle - half), jnp.flip(middle + half)])


def _extent(
    size: tuple[int, ...], align_corners: bool
) -> tuple[np.ndarray, np.ndarray, int]:
    """The centers of the axes, (x, y) or (x, y, z), and half their extents, in pixels;
    and how much longer a box is than what lies from -1 to 1.
    """
    axes = [center_and_half(n, align_corners) for n in reversed(size)]
    centers, halves = np.transpose(axes)
    return centers, halves, int(align_corners)

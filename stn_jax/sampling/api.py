"""Differentiable image sampling: the public doors, and what they lead to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from .._batching import lift
from .._checks import (
    as_coordinates,
    as_image,
    check_choice,
    check_image_and_grid,
    promote,
)
from ..coordinates import COORDINATES
from .dispatch import check_implementation
from .interpolate import interpolate
from .kernels import METHODS, SPLINES, Kernel
from .padding import as_modes
from .plan import Axis
from .splines import coefficients, margin


def sample(
    image: ArrayLike,
    grid: ArrayLike,
    *,
    method: str | Kernel = "bilinear",
    padding_mode: str | Sequence[str] = "zeros",
    fill_value: ArrayLike = 0.0,
    align_corners: bool = False,
    coordinates: str = "normalized",
    outside: str = "blend",
    implementation: str | None = None,
) -> jax.Array:
    """The image read at the points of a grid, with any kernel and border rule.

    Equation (3) of Jaderberg et al. (2015), ``V = sum_nm U[n, m] k(x - m) k(y - n)``,
    over the image as ``padding_mode`` extends it to all integers. Where the kernel has
    a kink, as bilinear on the lattice of pixels, gradients are the right-hand ones.

    Args:
      image: ``(*batch, H, W, C)`` or ``(*batch, D, H, W, C)``, floating or complex;
        for "nearest" also integers and booleans, as label masks.
      grid: ``(*batch, h, w, 2)``, last axis ``(x, y)``, for images, or ``(*batch, d, h,
        w, 3)``, last axis ``(x, y, z)``, for volumes. The leading axes broadcast
        against the image's, without a copy of the image.
      method: "nearest" (the pixel at floor(x + 1/2), eq. (4)); "bilinear" (eq. (5), in
        volumes trilinear); "bicubic" (Keys' kernel with A = -0.75, PyTorch's) and
        "catmull_rom" (with A = -0.5); "lanczos3" (normalized to sum 1); "bspline2" to
        "bspline5" (the spline through the pixels: the image is prefiltered to match
        its ``padding_mode``, by matrices made in float64, stable in float32 for all
        degrees); or a :class:`~stn_jax.Kernel` of one's own.
      padding_mode: what lies outside the image: "zeros"; "constant", the fill value;
        "border", the nearest pixel; "reflection", the image mirrored at its edges, or
        with ``align_corners`` at the centers of its outermost pixels; "wrap", the image
        again. One for all axes, or one for each in image order (height, width).
      fill_value: a number, or one for each channel ``(C,)``.
      align_corners: what -1 and 1 are: the centers of the outermost pixels (True) or
        the edges of the image (False), as in PyTorch.
      coordinates: "normalized", or "pixel": an integer is a pixel's center.
      outside: "blend": near its edge the image blends into what lies outside, as in
        PyTorch; or "fill": points outside the image (see :func:`inside`) read the fill
        value, all others the image alone, extended by ``padding_mode`` ("border" where
        that is "zeros" or "constant"): a hard edge.
      implementation: "gather", which looks up the few pixels that count at each point;
        "dense", which weighs all pixels by products of matrices, and so spreads a NaN
        or infinite pixel over the whole result; None for the faster: on a TPU, dense
        products for images of up to 4096 pixels, but not for "nearest" or a Kernel;
        else gathers. The results agree but for rounding, and so do their gradients.

    Returns:
      ``(*batch, h, w, C)`` or ``(*batch, d, h, w, C)``, with the image's dtype;
      coordinates and weights are float32 or better. A NaN coordinate gives NaN (the
      fill value in an integer image). An infinite one, or one over 2**23 pixels away,
      gives the fill value (under "border" the nearest pixel) and has no gradient.

    Raises:
      TypeError: an integer or boolean image under another method than "nearest" or
        under "dense", coordinates that are not real numbers.
      ValueError: shapes that do not fit each other, an unknown option, a
        ``fill_value`` that could never show.

    >>> image = jnp.array([[[0.0], [1.0], [0.0], [0.0]]])  # one row of four pixels
    >>> grid = jnp.array([[[1.0, 0.0], [1.5, 0.0], [4.0, 0.0]]])
    >>> for method in ("nearest", "bilinear", "catmull_rom"):
    ...     sample(image, grid, method=method, coordinates="pixel")[0, :, 0]
    Array([1., 0., 0.], dtype=float32)
    Array([1. , 0.5, 0. ], dtype=float32)
    Array([1.    , 0.5625, 0.    ], dtype=float32)
    """
    grid = as_coordinates(grid, "grid")
    image = as_pixels(image, method, implementation)
    if jnp.issubdtype(image.dtype, jnp.inexact):  # weights as precise as the pixels
        grid = grid.astype(promote(grid.dtype, jnp.finfo(image.dtype).dtype))
    ndim = check_image_and_grid(image, grid)
    image, fill, options = prepare(
        image,
        grid.dtype,
        ndim,
        method=method,
        padding_mode=padding_mode,
        fill_value=fill_value,
        align_corners=align_corners,
        coordinates=coordinates,
        outside=outside,
    )
    return lift(
        interpolate,
        _SIGNATURES[ndim],
        {**options, "implementation": implementation},
        compiled=isinstance(method, str),
        image=image,
        grid=grid,
        fill_value=fill,
    )


def bilinear_sample(
    image: ArrayLike,
    grid: ArrayLike,
    *,
    padding_mode: str | Sequence[str] = "zeros",
    fill_value: ArrayLike = 0.0,
    align_corners: bool = False,
) -> jax.Array:
    """The image read at the points of a grid, bilinearly (in volumes trilinearly).

    Equation (5) of Jaderberg et al. (2015), ``V = sum_nm U[n, m] max(0, 1 - |x - m|)
    max(0, 1 - |y - n|)``: the best-known case of :func:`sample`, which has more options
    and says what they mean. On the lattice of pixels, where the kernel has a kink, the
    gradient of the coordinates is the right-hand one.

    Args:
      image: ``(*batch, H, W, C)`` or ``(*batch, D, H, W, C)``, floating or complex.
      grid: ``(*batch, h, w, 2)``, last axis ``(x, y)``, for images, or ``(*batch, d, h,
        w, 3)``, last axis ``(x, y, z)``, for volumes; normalized. The leading axes
        broadcast against the image's, without a copy of the image.
      padding_mode: what lies outside the image: "zeros", "constant", "border",
        "reflection" or "wrap"; one for all axes, or one for each in image order.
      fill_value: a number, or one for each channel ``(C,)``, for "constant".
      align_corners: what -1 and 1 are: the centers of the outermost pixels (True) or
        the edges of the image (False), as in PyTorch.

    Returns:
      ``(*batch, h, w, C)`` or ``(*batch, d, h, w, C)``, with the image's dtype;
      coordinates and weights are float32 or better. A NaN coordinate gives NaN. An
      infinite one, or one over 2**23 pixels away, gives the fill value (under "border"
      the nearest pixel) and has no gradient.

    Raises:
      TypeError: integer or boolean images, coordinates that are not real numbers.
      ValueError: shapes that do not fit each other, an unknown ``padding_mode``, a
        ``fill_value`` that the ``padding_mode`` never shows.

    >>> image = jnp.array([[[0.0], [1.0], [2.0]]])  # one row of three pixels
    >>> grid = jnp.array([[[0.0, 0.0], [1 / 3, 0.0], [9.0, 0.0]]])
    >>> bilinear_sample(image, grid)[..., 0].round(4)
    Array([[1. , 1.5, 0. ]], dtype=float32)
    >>> bilinear_sample(image, grid, padding_mode="border")[..., 0].round(4)
    Array([[1. , 1.5, 2. ]], dtype=float32)
    """
    return sample(
        image,
        grid,
        padding_mode=padding_mode,
        fill_value=fill_value,
        align_corners=align_corners,
    )


_SIGNATURES = {
    2: "(H,W,C),(h,w,n),(C)->(h,w,C)",
    3: "(D,H,W,C),(d,h,w,n),(C)->(d,h,w,C)",
}


def as_pixels(
    image: ArrayLike, method: str | Kernel, implementation: str | None
) -> jax.Array:
    """An image of pixels that a method can read."""
    check_choice("method", method, METHODS, instead=Kernel)
    check_implementation(implementation)
    return as_image(image, discrete=method == "nearest" and implementation != "dense")


def prepare(
    image: jax.Array,
    dtype: jnp.dtype,
    ndim: int,
    *,
    method: str | Kernel = "bilinear",
    padding_mode: str | Sequence[str] = "zeros",
    fill_value: ArrayLike = 0.0,
    align_corners: bool = False,
    coordinates: str = "normalized",
    outside: str = "blend",
) -> tuple[jax.Array, jax.Array, dict[str, Any]]:
    """What is read in the image's place, the fill value of each channel, and the
    options of :func:`interpolate`; with coordinates of a dtype.
    """
    check_choice("coordinates", coordinates, COORDINATES)
    check_choice("outside", outside, ("blend", "fill"))
    modes = as_modes(padding_mode, ndim)
    fill = as_fill(fill_value, modes, outside, image)
    if outside == "fill":
        modes = tuple("border" if m in ("zeros", "constant") else m for m in modes)
    degree = SPLINES.get(method) if isinstance(method, str) else None
    axes = tuple(
        Axis(n, mode, margin(mode) if degree else 0, align_corners, coordinates)
        for n, mode in zip(image.shape[-ndim - 1 : -1], modes, strict=True)
    )
    options = {
        "method": method,
        "axes": axes,
        "is_filled": not _is_zero(fill_value) and not set(modes) <= {"zeros", "border"},
        "is_residual": bool(degree),
        "is_hard": outside == "fill",
        "dtype": image.dtype,
    }
    if degree:  # of what differs from the fill value, which lies around the image
        image = image.astype(promote(image.dtype, dtype))
        image = image - jnp.broadcast_to(fill.astype(image.dtype), image.shape)
        image = coefficients(image, degree, modes, align_corners)
    return image, fill, options


def _is_zero(value: ArrayLike) -> bool:
    """Whether a value is known to be zero when tracing."""
    return not isinstance(value, Tracer) and bool(np.all(np.asarray(value) == 0))


def as_fill(
    value: ArrayLike, modes: tuple[str, ...], outside: str, image: jax.Array
) -> jax.Array:
    """The fill value of every channel, (C,)."""
    is_known = not isinstance(value, Tracer)
    if not (_is_zero(value) or outside == "fill" or set(modes) - {"zeros", "border"}):
        raise ValueError(
            f"padding_mode={modes[0]!r} never shows fill_value={value!r}, "
            'which is for padding_mode="constant" or outside="fill"'
        )
    fill, channels = jnp.asarray(value, image.dtype), image.shape[-1]
    if fill.shape not in ((), (channels,)):
        raise ValueError(
            "fill_value must be a number, or one for each of the image's "
            f"{channels} channels; got shape {fill.shape}"
        )
    is_discrete = not jnp.issubdtype(image.dtype, jnp.inexact)
    if is_known and is_discrete and np.any(np.asarray(fill) != np.asarray(value)):
        raise ValueError(f"fill_value={value!r} is no value of {image.dtype} images")
    return jnp.broadcast_to(fill, (channels,))

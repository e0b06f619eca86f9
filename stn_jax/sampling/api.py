"""The public samplers: ``sample`` and ``bilinear_sample``."""

from __future__ import annotations

from collections.abc import Sequence

import jax
from jax.typing import ArrayLike

from .._types import Grid, Image
from .kernels import Kernel
from .sampler import Sampler


def sample(
    image: Image,
    grid: Grid,
    *,
    method: str | Kernel = "bilinear",
    padding_mode: str | Sequence[str] = "zeros",
    fill_value: ArrayLike | Sequence[ArrayLike] = 0.0,
    align_corners: bool = False,
    coordinates: str = "normalized",
    outside: str = "blend",
    implementation: str | None = None,
) -> jax.Array:
    r"""Sample an image at the points of a grid, with any kernel and padding.

    Equation (3) of Jaderberg et al. (2015), over the image U as ``padding_mode``
    extends it to all integers, with the kernel k:

    .. math:: V(x, y) = \sum_n \sum_m U_{nm} \, k(x - m) \, k(y - n)

    Where the kernel has a kink, as "bilinear" has on the lattice of pixels, gradients
    are the right-hand ones. :class:`~stn_jax.Sampler` describes each option in full.

    Args:
      image: ``(*batch, H, W, C)`` or ``(*batch, D, H, W, C)``, floating or complex;
        for "nearest" also integers and booleans, as label masks.
      grid: ``(*batch, h, w, 2)``, last axis ``(x, y)``, for images, or ``(*batch, d, h,
        w, 3)``, last axis ``(x, y, z)``, for volumes. The leading axes broadcast
        against the image's, without a copy of the image.
      method: the kernel: "nearest", "bilinear", "bicubic", "catmull_rom", "lanczos3",
        "bspline2" to "bspline5", or a :class:`~stn_jax.Kernel`. "bicubic" is
        PyTorch's (slope -0.75); second derivatives are closer under "catmull_rom"
        (slope -0.5, exact for parabolas) and "bspline3".
      padding_mode: "zeros", "constant", "border", "reflection" or "wrap"; one for all
        axes, or one for each in image order.
      fill_value: a number, or one for each channel ``(C,)``.
      align_corners: what -1 and 1 are: the centers of the outermost pixels (True) or
        the edges of the image (False), as in PyTorch.
      coordinates: of the grid: "normalized", or "pixel", where an integer is the center
        of a pixel.
      outside: "blend", or "fill" for a hard edge.
      implementation: "gather", "dense", or None for the faster one.

    Returns:
      ``(*batch, h, w, C)`` or ``(*batch, d, h, w, C)``, with the image's dtype.
      Coordinates and weights are float32 or better. A NaN coordinate gives NaN (the
      fill value in an integer image). An infinite one, or one over 2**23 pixels away,
      gives the fill value (under "border" the nearest pixel) and has no gradient.

    Raises:
      TypeError: an integer or boolean image under another method than "nearest" or
        under "dense"; coordinates that are not real numbers.
      ValueError: shapes that do not fit each other, an unknown option, a
        ``fill_value`` that could never show.

    >>> import jax.numpy as jnp
    >>> image = jnp.array([[[0.0], [1.0], [0.0], [0.0]]])  # one row of four pixels
    >>> grid = jnp.array([[[1.0, 0.0], [1.5, 0.0], [4.0, 0.0]]])
    >>> for method in ("nearest", "bilinear", "catmull_rom"):
    ...     sample(image, grid, method=method, coordinates="pixel")[0, :, 0]
    Array([1., 0., 0.], dtype=float32)
    Array([1. , 0.5, 0. ], dtype=float32)
    Array([1.    , 0.5625, 0.    ], dtype=float32)
    """
    sampler = Sampler(
        method,
        padding_mode,
        fill_value,
        align_corners,
        coordinates,
        outside,
        implementation,
    )
    return sampler(image, grid)


def bilinear_sample(
    image: Image,
    grid: Grid,
    *,
    padding_mode: str | Sequence[str] = "zeros",
    fill_value: ArrayLike | Sequence[ArrayLike] = 0.0,
    align_corners: bool = False,
) -> jax.Array:
    r"""Sample an image at the points of a grid, bilinearly (in volumes trilinearly).

    The most common case of :func:`sample`: equation (5) of Jaderberg et al. (2015),

    .. math:: V(x, y) = \sum_n \sum_m U_{nm} \max(0, 1 - |x - m|) \max(0, 1 - |y - n|)

    On the lattice of pixels, where the kernel has a kink, the gradient of the
    coordinates is the right-hand one.

    Args:
      image: ``(*batch, H, W, C)`` or ``(*batch, D, H, W, C)``, floating or complex.
      grid: ``(*batch, h, w, 2)``, last axis ``(x, y)``, for images, or ``(*batch, d, h,
        w, 3)``, last axis ``(x, y, z)``, for volumes; normalized. The leading axes
        broadcast against the image's, without a copy of the image.
      padding_mode: how the image is extended: "zeros", "constant", "border",
        "reflection" or "wrap"; one for all axes, or one for each in image order.
      fill_value: a number, or one for each channel ``(C,)``, for "constant".
      align_corners: what -1 and 1 are: the centers of the outermost pixels (True) or
        the edges of the image (False), as in PyTorch.

    Returns:
      ``(*batch, h, w, C)`` or ``(*batch, d, h, w, C)``, with the image's dtype.
      Coordinates and weights are float32 or better. A NaN coordinate gives NaN. An
      infinite one, or one over 2**23 pixels away, gives the fill value (under "border"
      the nearest pixel) and has no gradient.

    Raises:
      TypeError: integer or boolean images, coordinates that are not real numbers.
      ValueError: shapes that do not fit each other, an unknown ``padding_mode``, a
        ``fill_value`` that the ``padding_mode`` never shows.

    >>> import jax.numpy as jnp
    >>> image = jnp.array([[[0.0], [1.0], [2.0]]])  # one row of three pixels
    >>> grid = jnp.array([[[0.0, 0.0], [1 / 3, 0.0], [9.0, 0.0]]])
    >>> bilinear_sample(image, grid)[..., 0].round(4)
    Array([[1. , 1.5, 0. ]], dtype=float32)
    >>> bilinear_sample(image, grid, padding_mode="border")[..., 0].round(4)
    Array([[1. , 1.5, 2. ]], dtype=float32)
    """
    sampler = Sampler("bilinear", padding_mode, fill_value, align_corners)
    return sampler(image, grid)

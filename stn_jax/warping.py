"""The common case in one call: an image, a family, its parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ._batching import lift
from ._checks import as_image, as_size, check_choice, promote
from .sampling.api import as_fill, as_pixels, prepare, sample
from .sampling.dispatch import check_implementation, is_separable
from .sampling.kernels import PROFILES, Kernel
from .sampling.padding import as_modes
from .sampling.separable import antialiased, interpolate_separably
from .transforms import Transform


def warp(
    image: ArrayLike,
    transform: Transform,
    params: ArrayLike,
    size: Sequence[int] | None = None,
    *,
    align_corners: bool = False,
    antialias: bool = False,
    implementation: str | None = None,
    **sampling: Any,
) -> jax.Array:
    """The image sampled on the grid that a family's parameters describe.

    Args:
      image: ``(*batch, H, W, C)``, or ``(*batch, D, H, W, C)`` for a family of three
        dimensions (one whose ``ndim`` is 3).
      transform: the family, from :mod:`stn_jax.transforms` or of one's own.
      params: ``(*batch, P)``, as the family means them, in normalized coordinates.
      size: of the output, static; that of the image when None.
      align_corners: as in :func:`~stn_jax.sample`.
      antialias: widen the kernel where the image shrinks, so that every pixel counts,
        as ``jax.image.scale_and_translate`` does: the weights are those of the image's
        own pixels, divided by their sum. For ``Translation`` and ``Attention`` with
        ``outside="fill"``, and the kernels "bilinear", "bicubic", "catmull_rom",
        "lanczos3" and a :class:`~stn_jax.Kernel`. Every pixel of a row and a column
        takes part, most with weight 0: a NaN among them spreads.
      implementation: "gather" or "dense", as in :func:`~stn_jax.sample`. For
        ``Translation`` and ``Attention``, dense is one small product for each axis, in
        which a NaN pixel spreads along its row and its column, and which None takes on
        a TPU. Antialiasing is always dense.
      sampling: ``method``, ``padding_mode``, ``fill_value`` and ``outside``, as in
        :func:`~stn_jax.sample`.

    Returns:
      ``(*batch, *size, C)``, with the image's dtype.

    Raises:
      TypeError, ValueError: those of the family's grid and of the sampler; what
        ``antialias`` does not go with.

    >>> from stn_jax.transforms import Affine, Attention
    >>> image = jnp.arange(4.0).reshape(1, 4, 1)
    >>> mirrored = jnp.array([-1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    >>> warp(image, Affine(), mirrored, method="nearest")[0, :, 0]
    Array([3., 2., 1., 0.], dtype=float32)
    >>> stripes = jnp.tile(jnp.array([0.0, 1.0]), 8).reshape(1, 16, 1)
    >>> whole = Attention().identity
    >>> warp(stripes, Attention(), whole, (1, 3), method="nearest")[0, :, 0]
    Array([0., 0., 1.], dtype=float32)
    >>> warp(
    ...     stripes, Attention(), whole, (1, 3), antialias=True, outside="fill"
    ... )[0, :, 0].round(1)
    Array([0.5, 0.5, 0.5], dtype=float32)
    """
    image = jnp.asarray(image)
    ndim = getattr(transform, "ndim", 2)
    if size is None:
        size = image.shape[-ndim - 1 : -1]
    if antialias:
        if implementation == "gather":
            raise ValueError('antialias=True is dense; got implementation="gather"')
        return _antialiased(image, transform, params, size, align_corners, **sampling)
    way = {"align_corners": align_corners, **sampling}
    if _is_by_axes(image, transform, implementation):
        return _separable(image, transform, params, size, **way)
    grid = transform.grid(params, size, align_corners=align_corners)
    return sample(image, grid, implementation=implementation, **way)


def _is_by_axes(
    image: jax.Array, transform: Transform, implementation: str | None
) -> bool:
    """Whether one product for each axis is due."""
    check_implementation(implementation)
    if implementation is None and is_separable(jax.default_backend()):
        implementation = "dense"
    is_inexact = jnp.issubdtype(image.dtype, jnp.inexact)
    is_axis_aligned = getattr(transform, "is_axis_aligned", False)
    return implementation == "dense" and is_axis_aligned and is_inexact


def _separable(
    image: jax.Array,
    transform: Any,
    params: ArrayLike,
    size: Sequence[int],
    *,
    align_corners: bool,
    method: str | Kernel = "bilinear",
    **sampling: Any,
) -> jax.Array:
    """The axis-aligned families, by one product of matrices for each axis."""
    image = as_pixels(image, method, "dense")
    size, matrix = _matrix(image, transform, params, size)
    image, fill, options = prepare(
        image,
        matrix.dtype,
        transform.ndim,
        method=method,
        align_corners=align_corners,
        **sampling,
    )
    return lift(
        interpolate_separably,
        _SIGNATURES[transform.ndim],
        {**options, "size": size},
        compiled=isinstance(method, str),
        image=image,
        params=matrix,
        fill_value=fill,
    )


def _antialiased(
    image: jax.Array,
    transform: Any,
    params: ArrayLike,
    size: Sequence[int],
    align_corners: bool,
    method: str | Kernel = "bilinear",
    padding_mode: str | Sequence[str] = "zeros",
    fill_value: ArrayLike = 0.0,
    outside: str = "blend",
) -> jax.Array:
    """The same with widened kernels."""
    if not getattr(transform, "is_axis_aligned", False):
        raise ValueError(
            "antialias=True is for axis-aligned families, Translation and Attention; "
            f"got {transform}. Of others, warp to a multiple of the size and average"
        )
    check_choice("method under antialias=True", method, PROFILES, instead=Kernel)
    if outside != "fill" or padding_mode not in ("zeros", "constant"):
        raise ValueError(
            "antialias=True weighs the image's own pixels alone, and fills outside: it "
            f'takes outside="fill" and no padding_mode; got outside={outside!r}, '
            f"padding_mode={padding_mode!r}"
        )
    image = as_image(image)
    size, matrix = _matrix(image, transform, params, size)
    modes = as_modes(padding_mode, transform.ndim)
    return lift(
        antialiased,
        _SIGNATURES[transform.ndim],
        {"size": size, "method": method, "align_corners": align_corners},
        compiled=isinstance(method, str),
        image=image,
        params=matrix,
        fill_value=as_fill(fill_value, modes, outside, image),
    )


def _matrix(
    image: jax.Array, transform: Any, params: ArrayLike, size: Sequence[int]
) -> tuple[tuple[int, ...], jax.Array]:
    """The output's size, and a family's matrices, as precise as the image's pixels."""
    ndim = transform.ndim
    if image.ndim < ndim + 1 or 0 in image.shape[-ndim - 1 : -1]:
        raise ValueError(
            f"image must have {ndim} axes of pixels and one of channels, for "
            f"{transform}; got shape {image.shape}"
        )
    size, matrix = as_size(size, ndims=(ndim,)), transform.matrix(params)
    dtype = promote(matrix.dtype, jnp.finfo(image.dtype).dtype)
    return size, matrix.astype(dtype)


_SIGNATURES = {
    2: "(H,W,C),(k,k),(C)->(h,w,C)",
    3: "(D,H,W,C),(k,k),(C)->(d,h,w,C)",
}

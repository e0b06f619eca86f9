"""A family's grid and a sampler in one call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

import jax
import jax.numpy as jnp

from ._batching import lift
from ._checks import (
    as_count,
    as_image,
    as_params,
    as_size,
    as_transform,
    check_choice,
)
from ._types import Image, Params, Size
from .coordinates import center_and_half
from .sampling.interpolate import interpolate_on_grid
from .sampling.kernels import PROFILES, Kernel
from .sampling.sampler import (
    OPTIONS,
    Sampler,
    SamplerOptions,
    as_pixels,
    fill_values,
    prepare,
)
from .sampling.separable import antialiased
from .transforms import Attention, Chain, Transform


def warp(
    image: Image,
    transform: Transform,
    params: Params,
    size: Size | None = None,
    *,
    sampler: Sampler | None = None,
    antialias: bool = False,
    supersample: int = 1,
    **options: Unpack[SamplerOptions],
) -> jax.Array:
    """Sample an image on the grid that a family's parameters describe.

    Args:
      image: ``(*batch, H, W, C)``, or ``(*batch, D, H, W, C)`` for a family of three
        dimensions (one whose ``ndim`` is 3).
      transform: the family, from :mod:`stn_jax.transforms` or user-defined.
      params: ``(*batch, P)``, as the family means them, in normalized coordinates.
      size: of the output, static; that of the image when None.
      sampler: the :class:`~stn_jax.Sampler`, with ``coordinates="normalized"``. The
        grid gets the sampler's ``align_corners``.
      antialias: widen the kernel where the image shrinks, so that every pixel counts,
        as ``jax.image.scale_and_translate`` does. For ``Translation`` and
        ``Attention`` with ``outside="fill"``, and the kernels "bilinear", "bicubic",
        "catmull_rom", "lanczos3" and a :class:`~stn_jax.Kernel`. The sums run over all
        pixels of a row and a column, most with weight 0: a NaN among them spreads.
      supersample: k, static: antialiasing under any family and sampler. Each output
        pixel is the mean of k x k samples (k x k x k in volumes) at the centers of its
        subpixels, so that every pixel counts where the image shrinks by up to k. Time
        and memory are those of k x k times the pixels. With ``align_corners=True`` the
        family needs ``apply``, since subpixels reach beyond -1 and 1.
      options: those of a :class:`~stn_jax.Sampler`, instead of ``sampler``: ``method``,
        ``padding_mode``, ``fill_value``, ``align_corners``, ``outside`` and
        ``implementation``. For ``Translation`` and ``Attention``,
        ``implementation="dense"`` is one small matrix product for each axis, in which
        a NaN pixel spreads along its row and its column; a TPU takes it by default.
        Antialiasing is always dense.

    Returns:
      ``(*batch, *size, C)``, with the image's dtype.

    Raises:
      TypeError: an unknown option; ``sampler`` together with options; a ``transform``
        that is no family.
      ValueError: what the family's grid and the sampler refuse; options that
        ``antialias`` cannot honor; a ``supersample`` below 1, or with ``antialias``.

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
    >>> affine, options = Affine(), {"supersample": 4, "padding_mode": "border"}
    >>> warp(stripes, affine, affine.identity, (1, 4), **options)[0, :, 0].round(1)
    Array([0.5, 0.5, 0.5, 0.5], dtype=float32)
    """
    sampler = as_sampler(sampler, options)
    transform = as_transform(transform)
    image = jnp.asarray(image)
    ndim = getattr(transform, "ndim", 2)
    if size is None:
        size = image.shape[-ndim - 1 : -1]
    supersample = as_count(supersample, "supersample")
    if antialias:
        _check_antialias(transform, sampler, supersample)
        return _antialiased(image, transform, params, size, sampler)
    if supersample > 1:
        return _supersampled(image, transform, params, size, sampler, supersample)
    if _is_without_grid(image, transform, sampler):
        return _without_grid(image, transform, params, size, sampler)
    grid = transform.grid(params, size, align_corners=sampler.align_corners)
    return sampler(image, grid)


def as_sampler(sampler: Sampler | None, options: Mapping[str, Any]) -> Sampler:
    """The sampler of a warp: given as such, or by its options."""
    if unknown := [name for name in options if name not in OPTIONS]:
        raise TypeError(
            f"unknown option {unknown[0]!r}: the options of a sampler are "
            f"{', '.join(OPTIONS)}"
        )
    if sampler is None:
        sampler = Sampler(**options)
    elif options:
        raise TypeError(
            "pass either a sampler or the options of one; got sampler and "
            f"{', '.join(options)}"
        )
    if not isinstance(sampler, Sampler):
        raise TypeError(f"sampler must be a Sampler; got {sampler!r}")
    if sampler.coordinates != "normalized":
        raise ValueError(
            'coordinates must be "normalized", as the grids of all families are; got '
            f"{sampler.coordinates!r}"
        )
    return sampler


def _is_without_grid(image: jax.Array, transform: Any, sampler: Sampler) -> bool:
    """Whether the sampler takes the parameters and computes the points itself."""
    source = getattr(transform, "source", None)
    if source is None:
        return False
    is_dense = sampler.implementation == "dense" and source.is_axis_aligned
    if is_dense and sampler.method != "nearest":
        return jnp.issubdtype(image.dtype, jnp.inexact)
    is_primitive = isinstance(sampler.method, str)
    is_primitive &= jnp.issubdtype(image.dtype, jnp.floating)
    return sampler.implementation is None and is_primitive


def _without_grid(
    image: jax.Array,
    transform: Any,
    params: Params,
    size: Size,
    sampler: Sampler,
) -> jax.Array:
    image = as_pixels(sampler, image)
    size = _output_size(image, transform, size)
    theta = transform.theta(params)
    image, fill_value, plan = prepare(sampler, image, theta.dtype, transform.ndim)
    return lift(
        interpolate_on_grid,
        _SIGNATURES[transform.ndim],
        static={"plan": plan, "size": size, "source": transform.source},
        compiled=isinstance(sampler.method, str),
        image=image,
        params=theta,
        fill_value=fill_value,
    )


def _antialiased(
    image: jax.Array,
    transform: Any,
    params: Params,
    size: Size,
    sampler: Sampler,
) -> jax.Array:
    image = as_image(image)
    size = _output_size(image, transform, size)
    return lift(
        antialiased,
        _SIGNATURES[transform.ndim],
        static={
            "size": size,
            "method": sampler.method,
            "align_corners": sampler.align_corners,
        },
        compiled=isinstance(sampler.method, str),
        image=image,
        params=transform.theta(params),
        fill_value=fill_values(sampler, image),
    )


def _check_antialias(transform: Any, sampler: Sampler, supersample: int) -> None:
    if supersample > 1:
        raise ValueError(
            "antialias=True weighs all pixels already; got it with "
            f"supersample={supersample}"
        )
    if sampler.implementation == "gather":
        raise ValueError('antialias=True is dense; got implementation="gather"')
    if not getattr(transform, "is_axis_aligned", False):
        raise ValueError(
            "antialias=True is for axis-aligned families, Translation and Attention; "
            f"got {transform}. For others pass supersample=k: each output pixel is "
            "then the mean of k x k samples"
        )
    check_choice(
        "method under antialias=True", sampler.method, PROFILES, instead=Kernel
    )
    padding_mode, outside = sampler.padding_mode, sampler.outside
    if outside != "fill" or padding_mode not in ("zeros", "constant"):
        raise ValueError(
            "antialias=True weighs the image's own pixels alone, and fills outside: it "
            f'takes outside="fill" and no padding_mode; got outside={outside!r}, '
            f"padding_mode={padding_mode!r}"
        )


def _supersampled(
    image: jax.Array,
    transform: Any,
    params: Params,
    size: Size,
    sampler: Sampler,
    k: int,
) -> jax.Array:
    """The means of k samples along each axis of an output pixel."""
    image = as_image(image, discrete=True)
    if not jnp.issubdtype(image.dtype, jnp.inexact):
        raise TypeError(
            "image must be floating, since supersample averages samples; got dtype "
            f"{image.dtype}. Leave supersample out, or warp the share of each label: "
            "jax.nn.one_hot(labels, classes)"
        )
    size = as_size(size, ndims=(getattr(transform, "ndim", 2),))
    finer = tuple(k * n for n in size)
    if sampler.align_corners:  # without, the finer pixels are the subpixels already
        params = as_params(params, transform)
        transform, params = _at_subpixels(transform, params, size, k)
    samples = warp(image, transform, params, finer, sampler=sampler)
    batch, channels = samples.shape[: -len(size) - 1], samples.shape[-1]
    blocks = [length for n in size for length in (n, k)]
    samples = samples.reshape(*batch, *blocks, channels)
    return samples.mean(axis=tuple(range(-2 * len(size), 0, 2)))


def _at_subpixels(
    transform: Any, params: jax.Array, size: tuple[int, ...], k: int
) -> tuple[Chain, jax.Array]:
    """A transformation that puts the finer grid, of aligned corners, on the subpixels.

    The finer grid reaches from -1 to 1 and is scaled until its points are 1 / k of a
    pixel apart. A single output pixel has no extent; its subpixels divide [-1, 1].
    """
    if not hasattr(transform, "apply"):
        raise TypeError(
            f"{transform} lacks apply(params, points), which supersample needs with "
            "align_corners=True, since subpixels reach beyond -1 and 1"
        )
    scales = []
    for n in reversed(size):
        _, half = center_and_half(n, align_corners=True)
        _, finer_half = center_and_half(k * n, align_corners=True)
        scales.append(finer_half / k / (half or 1 / 2))
    window = jnp.array([*scales, *(0.0 for _ in size)], params.dtype)
    window = jnp.broadcast_to(window, (*params.shape[:-1], 2 * len(size)))
    chain = Chain(transform, Attention(len(size), isotropic=False))
    return chain, jnp.concatenate([params, window], axis=-1)


def _output_size(image: jax.Array, transform: Any, size: Size) -> tuple[int, ...]:
    """The output's size; an error if the image has not the family's dimensions."""
    ndim = transform.ndim
    if image.ndim < ndim + 1 or 0 in image.shape[-ndim - 1 : -1]:
        raise ValueError(
            f"image must have {ndim} axes of pixels and one of channels, for "
            f"{transform}; got shape {image.shape}"
        )
    return as_size(size, ndims=(ndim,))


_SIGNATURES = {
    2: "(H,W,C),(n,k),(C)->(h,w,C)",
    3: "(D,H,W,C),(n,k),(C)->(d,h,w,C)",
}

"""The public samplers: ``sample``, ``bilinear_sample``, and ``Sampler``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Number
from typing import Any, TypedDict

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
from .._types import Grid, Image
from ..coordinates import COORDINATES
from .dispatch import IMPLEMENTATIONS
from .interpolate import interpolate
from .kernels import METHODS, SPLINES, Kernel
from .padding import as_modes
from .plan import Axis, Plan
from .splines import coefficients, margin


@jax.tree_util.register_pytree_node_class
@dataclass(frozen=True)
class Sampler:
    """A sampler and its options: ``Sampler(...)(image, grid)``.

    A sampler is a pytree. A Python number as fill value is static; an array is a leaf,
    and may be traced and learnt. With a number a sampler is hashable.

    Args:
      method: the interpolation kernel. "nearest", the pixel at floor(x + 1/2), eq. (4);
        "bilinear", eq. (5), in volumes trilinear; "bicubic", Keys' kernel with
        A = -0.75, which is PyTorch's; "catmull_rom", Keys' with A = -0.5; "lanczos3",
        normalized to sum 1; "bspline2" to "bspline5", the spline through the pixels;
        or a custom :class:`~stn_jax.Kernel`.
      padding_mode: how the image is extended over all integers. "zeros"; "constant", by
        the fill value; "border", by the nearest pixel; "reflection", mirrored at its
        edges or, with ``align_corners``, at the centers of its outermost pixels;
        "wrap", periodically. One mode for all axes, or one for each in image order,
        (height, width) or (depth, height, width).
      fill_value: a number, or one for each channel ``(C,)``. For "constant", for
        ``outside="fill"``, and for points more than 2**23 pixels away.
      align_corners: what -1 and 1 are: the centers of the outermost pixels (True) or
        the edges of the image (False), as in PyTorch.
      coordinates: the unit of the grid: "normalized", or "pixel", where an integer is
        the center of a pixel.
      outside: "blend": near its edge the image blends into its padding, as in PyTorch.
        "fill": points outside the image (see :func:`~stn_jax.inside`) get the fill
        value, all others are interpolated from the image alone, extended by
        ``padding_mode`` ("border" instead of "zeros" and "constant"): a hard edge.
      implementation: "gather" looks up the few pixels around each point. "dense"
        weighs all pixels by matrix products, so that a NaN or infinite pixel spreads
        over the whole result. None takes the faster one for the platform: on a TPU
        "dense" for images of up to 4096 pixels, but not for "nearest", a Kernel or
        complex images; else "gather". The results and gradients agree to rounding.

    Raises:
      TypeError: a ``fill_value`` that is no number or array.
      ValueError: an unknown option; a ``fill_value`` that the ``padding_mode`` never
        shows.

    >>> sampler = Sampler(method="bicubic", padding_mode="border")
    >>> image, grid = jnp.ones((2, 8, 8, 3)), jnp.zeros((5, 5, 2))
    >>> sampler(image, grid).shape
    (2, 5, 5, 3)
    """

    method: str | Kernel = "bilinear"
    padding_mode: str | Sequence[str] = "zeros"
    fill_value: ArrayLike | Sequence[ArrayLike] = 0.0
    align_corners: bool = False
    coordinates: str = "normalized"
    outside: str = "blend"
    implementation: str | None = None

    def __post_init__(self) -> None:
        check_choice("method", self.method, METHODS, instead=Kernel)
        check_choice("coordinates", self.coordinates, COORDINATES)
        check_choice("outside", self.outside, ("blend", "fill"))
        if self.implementation is not None:
            check_choice("implementation", self.implementation, IMPLEMENTATIONS)
        if not isinstance(self.padding_mode, str):
            object.__setattr__(self, "padding_mode", _as_tuple(self.padding_mode))
        object.__setattr__(self, "fill_value", _as_numbers(self.fill_value))
        _check_shows(self)

    def __call__(self, image: Image, grid: Grid) -> jax.Array:
        """Sample an image at the points of a grid; see :func:`~stn_jax.sample`."""
        grid = as_coordinates(grid, "grid")
        image = self.as_pixels(image)
        if jnp.issubdtype(image.dtype, jnp.inexact):  # weights as precise as the pixels
            grid = grid.astype(promote(grid.dtype, jnp.finfo(image.dtype).dtype))
        ndim = check_image_and_grid(image, grid)
        image, fill_value, plan = self.prepare(image, grid.dtype, ndim)
        return lift(
            interpolate,
            _SIGNATURES[ndim],
            static={"plan": plan},
            compiled=isinstance(self.method, str),
            image=image,
            grid=grid,
            fill_value=fill_value,
        )

    def as_pixels(self, image: Image) -> jax.Array:
        """An image of pixels that the method can sample."""
        is_discrete = self.method == "nearest" and self.implementation != "dense"
        return as_image(image, discrete=is_discrete)

    def prepare(
        self, image: jax.Array, dtype: jnp.dtype, ndim: int
    ) -> tuple[jax.Array, jax.Array, Plan]:
        """What a call needs: the image, prefiltered for a spline; the fill value of
        each channel; the plan. ``dtype`` is that of the grid.
        """
        modes = as_modes(self.padding_mode, ndim)
        fill_value = self.fill_values(image)
        if self.outside == "fill":
            modes = tuple("border" if m in ("zeros", "constant") else m for m in modes)
        degree = SPLINES.get(self.method) if isinstance(self.method, str) else None
        plan = Plan(
            method=self.method,
            axes=tuple(
                Axis(
                    n,
                    mode,
                    margin(mode) if degree else 0,
                    self.align_corners,
                    self.coordinates,
                )
                for n, mode in zip(image.shape[-ndim - 1 : -1], modes, strict=True)
            ),
            dtype=image.dtype,
            implementation=self.implementation,
            is_filled=not _is_zero(self.fill_value)
            and not set(modes) <= {"zeros", "border"},
            is_residual=bool(degree),
            is_hard=self.outside == "fill",
        )
        if degree:  # of the difference from the fill value, which surrounds the image
            image = image.astype(promote(image.dtype, dtype))
            image = image - jnp.broadcast_to(
                fill_value.astype(image.dtype), image.shape
            )
            image = coefficients(image, degree, modes, self.align_corners)
        return image, fill_value, plan

    def fill_values(self, image: jax.Array) -> jax.Array:
        """The fill value of each channel of an image, ``(C,)``."""
        value, channels, dtype = self.fill_value, image.shape[-1], image.dtype
        is_known = not isinstance(value, Tracer)
        if is_known and not jnp.issubdtype(dtype, jnp.inexact):
            exact = np.asarray(value)
            if np.any(exact.astype(dtype) != exact):
                raise ValueError(f"fill_value={value!r} is no value of {dtype} images")
        fill = jnp.asarray(value, dtype)
        if fill.shape not in ((), (channels,)):
            raise ValueError(
                "fill_value must be a number, or one for each of the image's "
                f"{channels} channels; got shape {fill.shape}"
            )
        return jnp.broadcast_to(fill, (channels,))

    def tree_flatten(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """The fill value is a leaf unless it is a number."""
        options = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        is_static = isinstance(self.fill_value, Number)
        leaves = () if is_static else (options.pop("fill_value"),)
        return leaves, tuple(options.items())

    @classmethod
    def tree_unflatten(cls, static: tuple[Any, ...], leaves: tuple[Any, ...]) -> Any:
        """The same without validation: JAX unflattens with placeholders as leaves."""
        sampler = object.__new__(cls)
        for name, value in (*static, *(("fill_value", leaf) for leaf in leaves)):
            object.__setattr__(sampler, name, value)
        return sampler


class SamplerOptions(TypedDict, total=False):
    """The options of a :class:`Sampler`, as keywords of other functions."""

    method: str | Kernel
    padding_mode: str | Sequence[str]
    fill_value: ArrayLike | Sequence[ArrayLike]
    align_corners: bool
    coordinates: str
    outside: str
    implementation: str | None


OPTIONS = tuple(field.name for field in dataclasses.fields(Sampler))


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
    """Sample an image at the points of a grid, with any kernel and padding.

    Equation (3) of Jaderberg et al. (2015), ``V = sum_nm U[n, m] k(x - m) k(y - n)``,
    over the image as ``padding_mode`` extends it to all integers. Where the kernel has
    a kink, as "bilinear" has on the lattice of pixels, gradients are the right-hand
    ones. :class:`~stn_jax.Sampler` describes each option in full.

    Args:
      image: ``(*batch, H, W, C)`` or ``(*batch, D, H, W, C)``, floating or complex;
        for "nearest" also integers and booleans, as label masks.
      grid: ``(*batch, h, w, 2)``, last axis ``(x, y)``, for images, or ``(*batch, d, h,
        w, 3)``, last axis ``(x, y, z)``, for volumes. The leading axes broadcast
        against the image's, without a copy of the image.
      method: the kernel: "nearest", "bilinear", "bicubic", "catmull_rom", "lanczos3",
        "bspline2" to "bspline5", or a :class:`~stn_jax.Kernel`.
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
    """Sample an image at the points of a grid, bilinearly (in volumes trilinearly).

    Equation (5) of Jaderberg et al. (2015), ``V = sum_nm U[n, m] max(0, 1 - |x - m|)
    max(0, 1 - |y - n|)``: the most common case of :func:`sample`. On the lattice of
    pixels, where the kernel has a kink, the gradient of the coordinates is the
    right-hand one.

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

    >>> image = jnp.array([[[0.0], [1.0], [2.0]]])  # one row of three pixels
    >>> grid = jnp.array([[[0.0, 0.0], [1 / 3, 0.0], [9.0, 0.0]]])
    >>> bilinear_sample(image, grid)[..., 0].round(4)
    Array([[1. , 1.5, 0. ]], dtype=float32)
    >>> bilinear_sample(image, grid, padding_mode="border")[..., 0].round(4)
    Array([[1. , 1.5, 2. ]], dtype=float32)
    """
    sampler = Sampler("bilinear", padding_mode, fill_value, align_corners)
    return sampler(image, grid)


_SIGNATURES = {
    2: "(H,W,C),(h,w,n),(C)->(h,w,C)",
    3: "(D,H,W,C),(d,h,w,n),(C)->(d,h,w,C)",
}


def _as_tuple(modes: Any) -> tuple[str, ...]:
    """The padding modes of several axes, or an error that lists the modes."""
    count = len(modes) if isinstance(modes, Sequence) else 0
    return as_modes(modes, count if count in (2, 3) else 2)


def _as_numbers(value: Any) -> Any:
    """A fill value: a number or an array, made of a sequence of numbers."""
    if isinstance(value, Number) or hasattr(value, "shape"):
        return value
    try:
        is_traced = any(isinstance(x, Tracer) for x in value)
        array = (jnp if is_traced else np).asarray(value)
    except (TypeError, ValueError):
        array = np.asarray(value, object)
    if not any(jnp.issubdtype(array.dtype, kind) for kind in (np.number, np.bool_)):
        raise TypeError(
            f"fill_value must be a number, or one for each channel; got {value!r}"
        )
    return array


def _check_shows(sampler: Sampler) -> None:
    """A fill value, where it is known when tracing, must be able to show."""
    modes = sampler.padding_mode
    modes = as_modes(modes, 2) if isinstance(modes, str) else modes
    can_show = sampler.outside == "fill" or set(modes) - {"zeros", "border"}
    if not can_show and not _is_zero(sampler.fill_value):
        raise ValueError(
            f"padding_mode={modes[0]!r} never shows fill_value={sampler.fill_value!r}, "
            'which is for padding_mode="constant" or outside="fill"'
        )


def _is_zero(value: Any) -> bool:
    """Whether a value is known to be zero when tracing."""
    return not isinstance(value, Tracer) and bool(np.all(np.asarray(value) == 0))

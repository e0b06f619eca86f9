"""The sampler: its options, validated, and the preparation of a call."""

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
from .prefilter import coefficients
from .splines import margin


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
        image = as_pixels(self, image)
        if jnp.issubdtype(image.dtype, jnp.inexact):  # weights as precise as the pixels
            grid = grid.astype(promote(grid.dtype, jnp.finfo(image.dtype).dtype))
        ndim = check_image_and_grid(image, grid)
        image, fill_value, plan = prepare(self, image, grid.dtype, ndim)
        return lift(
            interpolate,
            _SIGNATURES[ndim],
            static={"plan": plan},
            compiled=isinstance(self.method, str),
            image=image,
            grid=grid,
            fill_value=fill_value,
        )

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


_SIGNATURES = {
    2: "(H,W,C),(h,w,n),(C)->(h,w,C)",
    3: "(D,H,W,C),(d,h,w,n),(C)->(d,h,w,C)",
}


def as_pixels(sampler: Sampler, image: Image) -> jax.Array:
    """An image of pixels that the method can sample."""
    is_discrete = sampler.method == "nearest" and sampler.implementation != "dense"
    return as_image(image, discrete=is_discrete)


def prepare(
    sampler: Sampler, image: jax.Array, dtype: jnp.dtype, ndim: int
) -> tuple[jax.Array, jax.Array, Plan]:
    """What a call needs: the image, prefiltered for a spline; the fill value of
    each channel; the plan. ``dtype`` is that of the grid.
    """
    modes = as_modes(sampler.padding_mode, ndim)
    fill_value = fill_values(sampler, image)
    if sampler.outside == "fill":
        modes = tuple("border" if m in ("zeros", "constant") else m for m in modes)
    degree = SPLINES.get(sampler.method) if isinstance(sampler.method, str) else None
    plan = Plan(
        method=sampler.method,
        axes=tuple(
            Axis(
                n,
                mode,
                margin(mode) if degree else 0,
                sampler.align_corners,
                sampler.coordinates,
            )
            for n, mode in zip(image.shape[-ndim - 1 : -1], modes, strict=True)
        ),
        dtype=image.dtype,
        implementation=sampler.implementation,
        is_filled=not _is_zero(sampler.fill_value)
        and not set(modes) <= {"zeros", "border"},
        is_residual=bool(degree),
        is_hard=sampler.outside == "fill",
    )
    if degree:  # of the difference from the fill value, which surrounds the image
        image = image.astype(promote(image.dtype, dtype))
        image = image - jnp.broadcast_to(fill_value.astype(image.dtype), image.shape)
        image = coefficients(image, degree, modes, sampler.align_corners)
    return image, fill_value, plan


def fill_values(sampler: Sampler, image: jax.Array) -> jax.Array:
    """The fill value of each channel of an image, ``(C,)``."""
    value, channels, dtype = sampler.fill_value, image.shape[-1], image.dtype
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

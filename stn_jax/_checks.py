"""What the public doors let in: each check returns the value made regular, or raises
an error that says what arrived and what was due.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike, DTypeLike

_SIZE = "size must be (height, width) or (depth, height, width), positive integers"


def as_size(
    size: Sequence[int], due: str = _SIZE, ndims: tuple[int, ...] = (2, 3)
) -> tuple[int, ...]:
    """``size`` as a tuple of positive ints, as many as ``ndims`` allows."""
    message = f"{due}, known when tracing; got {size!r}"
    if isinstance(size, Tracer):
        raise TypeError(message)
    try:
        lengths = tuple(operator.index(n) for n in size)
    except TypeError as error:
        raise TypeError(message) from error
    if any(isinstance(n, bool) for n in size):
        raise TypeError(message)
    if len(lengths) not in ndims or min(lengths) < 1:
        raise ValueError(message)
    return lengths


def as_coordinates(values: ArrayLike, name: str) -> jax.Array:
    """``values`` as an array of float32 or better, the precision coordinates need."""
    array = _as_array(values, name)
    is_real = jnp.issubdtype(array.dtype, jnp.floating)
    if not (is_real or jnp.issubdtype(array.dtype, jnp.integer)):
        raise TypeError(f"{name} must hold real numbers; got dtype {array.dtype}")
    return array.astype(promote(array.dtype, jnp.float32))


def promote(a: DTypeLike, b: DTypeLike) -> jnp.dtype:
    """The dtype that holds both, also for those who forbid implicit promotion."""
    with jax.numpy_dtype_promotion("standard"):
        return jnp.promote_types(a, b)


def as_points(
    values: ArrayLike, name: str, ndims: tuple[int, ...] = (2, 3), least: int = 0
) -> jax.Array:
    """``values`` as ``(*batch, N, n)`` points, at ``least`` so many."""
    points = as_coordinates(values, name)
    ndim = points.shape[-1] if points.ndim >= 2 else 0
    if ndim not in ndims or points.shape[-2] < least:
        due = " or ".join(map(str, ndims))
        some = f", with at least {least} points" if least else ""
        raise ValueError(
            f"{name} must be (*batch, N, {due}){some}; got shape {points.shape}"
        )
    return points


def as_params(params: ArrayLike, transform: Any) -> jax.Array:
    """``params`` as the flat parameters ``(*batch, P)`` of a family."""
    params, due = as_coordinates(params, "params"), transform.num_params
    if params.shape[-1:] != (due,):
        raise ValueError(
            f"params must be (*batch, {due}) for {transform}; got shape {params.shape}"
        )
    return params


def as_positive(value: Any, name: str) -> float:
    """``value`` as a positive, finite float."""
    try:
        number = float(value)
    except TypeError as error:
        raise TypeError(f"{name} must be a positive number; got {value!r}") from error
    if not 0 < number < math.inf:
        raise ValueError(f"{name} must be a positive number; got {value!r}")
    return number


def as_image(
    values: ArrayLike, name: str = "image", *, discrete: bool = False
) -> jax.Array:
    """``values`` as an array of floating or complex, or ``discrete``, pixels."""
    array = _as_array(values, name)
    if not (discrete or jnp.issubdtype(array.dtype, jnp.inexact)):
        raise TypeError(
            f"{name} must be floating, since interpolated values would be rounded; got "
            f"dtype {array.dtype}. Convert it, for bytes: image.astype('float32') / 255"
            '; or keep its values: sample(..., method="nearest")'
        )
    return array


def check_image_and_grid(image: jax.Array, grid: jax.Array) -> int:
    """Two for images, three for volumes."""
    ndim = grid.shape[-1] if grid.ndim else 0
    if ndim not in (2, 3) or grid.ndim < ndim + 1:
        raise ValueError(
            "grid must be (*batch, h, w, 2) for images or (*batch, d, h, w, 3) for "
            f"volumes; got shape {grid.shape}"
        )
    if image.ndim < ndim + 1 or 0 in image.shape[-ndim - 1 : -1]:
        due = {2: "(*batch, H, W, C)", 3: "(*batch, D, H, W, C)"}[ndim]
        raise ValueError(
            f"image must be {due}, with at least one pixel along each axis, for a grid "
            f"of {ndim} coordinates; got shape {image.shape}"
        )
    return ndim


def check_choice(
    name: str, value: Any, choices: Iterable[str], instead: type | None = None
) -> None:
    """An option must be one of some names, or an instance of a class instead."""
    if instead is not None and isinstance(value, instead):
        return
    if not isinstance(value, str) or value not in choices:
        names = ", ".join(repr(choice) for choice in choices)
        other = f", or a {instead.__name__}" if instead else ""
        raise ValueError(f"{name} must be one of {names}{other}; got {value!r}")


def check_regularization(value: Any) -> None:
    """A ridge, where it is known when tracing, must not be negative."""
    if not isinstance(value, Tracer) and not np.all(np.asarray(value) >= 0):
        raise ValueError(f"regularization must be 0 or more; got {value}")


def check_features(
    features: jax.Array, images: jax.Array, count: int | None = None
) -> None:
    """A localization network must return a row of ``count`` features for each image."""
    is_row = features.ndim == 2 and features.shape[0] == images.shape[0]
    if not is_row or features.shape[1] != (count or features.shape[1]):
        raise ValueError(
            f"localization must return (B, {count or 'features'}) for images (B, ...); "
            f"got {features.shape} for images {images.shape}"
        )


def _as_array(values: Any, name: str) -> jax.Array:
    try:
        return jnp.asarray(values)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be an array of numbers: {error}") from error

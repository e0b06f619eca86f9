"""Argument validation for the public API.

Each ``as_*`` function returns the canonical value, each ``check_*`` function nothing.
All raise an error that states what was expected and what was received.
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
    size: Sequence[int], expected: str = _SIZE, ndims: tuple[int, ...] = (2, 3)
) -> tuple[int, ...]:
    """``size`` as a tuple of positive ints, as many as ``ndims`` allows."""
    message = f"{expected}, known when tracing; got {size!r}"
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
    """The dtype that holds both, also where implicit promotion is an error."""
    with jax.numpy_dtype_promotion("standard"):
        return jnp.promote_types(a, b)


def as_points(
    values: ArrayLike, name: str, ndims: tuple[int, ...] = (2, 3), least: int = 0
) -> jax.Array:
    """``values`` as points ``(*batch, N, n)``, with N at least ``least``."""
    points = as_coordinates(values, name)
    ndim = points.shape[-1] if points.ndim >= 2 else 0
    if ndim not in ndims or points.shape[-2] < least:
        expected = " or ".join(map(str, ndims))
        some = f", with at least {least} points" if least else ""
        raise ValueError(
            f"{name} must be (*batch, N, {expected}){some}; got shape {points.shape}"
        )
    return points


def as_params(params: ArrayLike, transform: Any) -> jax.Array:
    """``params`` as the flat parameters ``(*batch, P)`` of a family."""
    params, expected = as_coordinates(params, "params"), transform.num_params
    if params.shape[-1:] != (expected,):
        raise ValueError(
            f"params must be flat, (*batch, {expected}), for {transform}; got shape "
            f"{params.shape}{_flattened(params.shape, transform)}"
        )
    return params


def _flattened(shape: tuple[int, ...], transform: Any) -> str:
    """How matrices become flat parameters, where the shape is that of matrices."""
    n, expected = getattr(transform, "ndim", 2), transform.num_params
    if shape[-2:] == (n + 1, n + 1) and hasattr(transform, "params"):
        return f". Homogeneous matrices become parameters by {transform}.params(matrix)"
    if len(shape) > 1 and math.prod(shape[-2:]) == expected:
        flat = ", ".join(map(str, (*shape[:-2], expected)))
        return (
            f". Matrices become flat by .reshape(*batch, {expected}), here "
            f"params.reshape({flat})"
        )
    return ""


def as_transform(transform: Any) -> Any:
    """``transform`` as a family: an object with the members of ``Transform``."""
    expected = "transform must be a family of transformations, such as Affine()"
    if isinstance(transform, type):
        name = transform.__name__
        raise TypeError(f"{expected}; got the class {name}: make one, {name}()")
    if not (hasattr(transform, "grid") and hasattr(transform, "num_params")):
        raise TypeError(
            f"{expected} from stn_jax.transforms, or an object with num_params, "
            f"identity and grid(params, size); got {transform!r}"
        )
    return transform


def as_positive(value: Any, name: str) -> float:
    """``value`` as a positive, finite float."""
    try:
        number = float(value)
    except TypeError as error:
        raise TypeError(f"{name} must be a positive number; got {value!r}") from error
    if not 0 < number < math.inf:
        raise ValueError(f"{name} must be a positive number; got {value!r}")
    return number


def as_count(value: Any, name: str) -> int:
    """``value`` as a positive int, known when tracing."""
    message = f"{name} must be a positive integer, known when tracing; got {value!r}"
    if isinstance(value, Tracer | bool) or not hasattr(value, "__index__"):
        raise TypeError(message)
    if operator.index(value) < 1:
        raise ValueError(message)
    return operator.index(value)


def as_image(
    values: ArrayLike, name: str = "image", *, discrete: bool = False
) -> jax.Array:
    """``values`` as an array of floating or complex pixels, or ``discrete`` ones."""
    array = _as_array(values, name)
    if not (discrete or jnp.issubdtype(array.dtype, jnp.inexact)):
        raise TypeError(
            f"{name} must be floating, since interpolated values would be rounded; got "
            f"dtype {array.dtype}. Convert it, for bytes: image.astype('float32') / 255"
            '; or keep its values: sample(..., method="nearest")'
        )
    return array


def check_image_and_grid(image: jax.Array, grid: jax.Array) -> int:
    """The number of dimensions: 2 for images, 3 for volumes."""
    ndim = grid.shape[-1] if grid.ndim else 0
    if ndim not in (2, 3) or grid.ndim < ndim + 1:
        raise ValueError(
            "grid must be (*batch, h, w, 2) for images or (*batch, d, h, w, 3) for "
            f"volumes; got shape {grid.shape}"
        )
    if image.ndim < ndim + 1 or 0 in image.shape[-ndim - 1 : -1]:
        expected = {2: "(*batch, H, W, C)", 3: "(*batch, D, H, W, C)"}[ndim]
        raise ValueError(
            f"image must be {expected}, with at least one pixel along each axis, for a "
            f"grid of {ndim} coordinates; got shape {image.shape}"
        )
    return ndim


def check_choice(
    name: str, value: Any, choices: Iterable[str], instead: type | None = None
) -> None:
    """An option must be one of ``choices``, or an instance of the class ``instead``."""
    if instead is not None and isinstance(value, instead):
        return
    if not isinstance(value, str) or value not in choices:
        names = ", ".join(repr(choice) for choice in choices)
        other = f", or a {instead.__name__}" if instead else ""
        raise ValueError(f"{name} must be one of {names}{other}; got {value!r}")


def check_regularization(value: Any) -> None:
    """A ridge that is known when tracing must not be negative."""
    if not isinstance(value, Tracer) and not np.all(np.asarray(value) >= 0):
        raise ValueError(f"regularization must be 0 or more; got {value}")


def check_images(images: jax.Array, ndim: int) -> None:
    """Images of a module must have a batch axis, ``ndim`` of pixels, and channels."""
    if images.ndim != ndim + 2:
        expected = {2: "(B, H, W, C)", 3: "(B, D, H, W, C)"}.get(ndim, "(B, ..., C)")
        remedy = ""
        if images.ndim == ndim + 1:
            remedy = ". Without a channel axis: images[..., None]"
        raise ValueError(
            f"images must be {expected}, channels last; got shape {images.shape}"
            + remedy
        )


def as_starts(start: ArrayLike, transform: Any) -> jax.Array:
    """``start`` as the parameters ``(n, P)`` of n transformers of a family."""
    params = as_coordinates(start, "start")
    count = transform.num_params
    if params.ndim != 2 or params.shape[0] < 1 or params.shape[1] != count:
        raise ValueError(
            f"start must have shape (n, {count}), a row for each transformer of "
            f"{transform}; got {params.shape}"
        )
    return params


def check_features(features: Any, images: jax.Array, count: int | None = None) -> None:
    """A localization network must return a row of ``count`` features for each image."""
    if not hasattr(features, "shape"):
        raise TypeError(
            f"localization must return an array (B, {count or 'features'}); got "
            f"{type(features).__name__}"
        )
    is_row = features.ndim == 2 and features.shape[0] == images.shape[0]
    if not is_row or features.shape[1] != (count or features.shape[1]):
        raise ValueError(
            f"localization must return (B, {count or 'features'}) for images (B, ...); "
            f"got {features.shape} for images {images.shape}"
        )


def check_conv_size(
    size: Sequence[int], convolutions: int, kernel_size: int, downsample: int
) -> None:
    """Images of a convolutional localization network must not shrink to nothing."""

    def fit(kernel_size: int, downsample: int) -> bool:
        n = min(size) // downsample
        for index in range(convolutions):
            n = (n // 2 if index else n) - kernel_size + 1
        return n >= 1

    if fit(kernel_size, downsample):
        return
    remedy = "fewer channels, one number for each convolution"
    for smaller in ((kernel_size, 1), (3, downsample), (3, 1), (1, 1)):
        if smaller <= (kernel_size, downsample) and fit(*smaller):
            remedy = f"downsample={smaller[1]}, kernel_size={smaller[0]}"
            break
    raise ValueError(
        f"images of {tuple(size)} pixels are too small for {convolutions} convolutions "
        f"with kernel_size={kernel_size} and downsample={downsample}; these fit: "
        f"{remedy}"
    )


def _as_array(values: Any, name: str) -> jax.Array:
    try:
        return jnp.asarray(values)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be an array of numbers: {error}") from error

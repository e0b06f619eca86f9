"""Calls of the compiled CPU kernel, and whether it may be called."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..._checks import check_choice
from ...coordinates import center_and_half
from ..kernels import SPLINES
from ..plan import Plan
from ..splines import Spline, margin
from . import build, library, packaged
from .weights import polynomials

VALUES, COTANGENTS, WARP_VALUES, WARP_COTANGENTS, PREFILTER = library.FUNCTIONS
# it knows no others
METHODS = ("nearest", "bilinear", "bicubic", "catmull_rom", "lanczos3", *SPLINES)
MODES = ("zeros", "constant", "border", "reflection", "wrap")
DTYPES = (jnp.float32, jnp.float64, jnp.bfloat16, jnp.float16)
FARTHEST = 48  # pixels beyond an edge that count for a spline: 0.43**48 = 3e-18
RULES = ("zeros", "border", "reflection", "mirror", "wrap")  # numbered in axes.h
Load = Callable[[Path], library.Library]
_LOCK = threading.Lock()  # programs may be lowered in several threads


def is_on() -> bool:
    """Return whether programs that are compiled now for a CPU call the kernel.

    Raises:
      ValueError: ``STN_JAX_CPU`` is neither "on", its default, nor "off".
    """
    return in_use() is not None


def in_use() -> library.Library | None:
    """Return the library that programs call which are compiled now for a CPU, or None.

    A library in the user's cache comes before those of the package. Each is checked and
    loaded once in a process. If that fails, a warning says why, and the next one is
    tried; without any, plain JAX samples.

    Raises:
      ValueError: ``STN_JAX_CPU`` is neither "on", its default, nor "off".
    """
    if not is_allowed():
        return None
    with _LOCK:
        for path, load in _candidates():
            if found := _registered(path, load):
                return found
    return None


def is_allowed() -> bool:
    """Return whether the environment allows the kernel; see ``is_on``."""
    asked = os.environ.get("STN_JAX_CPU") or "on"
    check_choice("the environment's STN_JAX_CPU", asked, ("on", "off"))
    return asked == "on"


def _candidates() -> list[tuple[Path, Load]]:
    found = []
    with contextlib.suppress(RuntimeError):  # without a home folder there is no cache
        found.append((build.own_path(), build.load_own))
    if path := packaged.packaged_path():
        found.append((path, packaged.load_packaged))
    return [(path, load) for path, load in found if os.path.lexists(path)]


@functools.cache
def _registered(path: Path, load: Load) -> library.Library | None:
    """Register a library's functions with JAX; return it if that succeeded.

    JAX's CPU is started before. Otherwise JAX would keep the functions for later, and
    could not start if its version then refused them.
    """
    try:
        found = load(path)
        jax.local_devices(backend="cpu")
        for name, function in found.functions.items():
            capsule = jax.ffi.pycapsule(function)
            jax.ffi.register_ffi_target(name, capsule, platform="cpu")
    except RuntimeError as error:
        _warn(str(error))
        return None
    return found


@functools.cache
def _warn(reason: str) -> None:
    """Warn once that a kernel is not used."""
    warnings.warn(
        f"stn_jax leaves out a compiled CPU kernel: {reason} (`python -m stn_jax.cpu` "
        "says what is used instead; `python -m stn_jax.cpu build` builds a kernel "
        "anew; STN_JAX_CPU=off leaves all out)",
        RuntimeWarning,
        stacklevel=2,
    )


def values(image: jax.Array, points: jax.Array, *, plan: Plan) -> list[jax.Array]:
    """Sample images ``(P, *size, C)`` at points ``(P, M, n)``: ``[(P, M, C)]``."""
    pixels = _as_precise_as(points, image)
    shape = (*points.shape[:2], image.shape[-1])
    call = jax.ffi.ffi_call(VALUES, _flat(shape, pixels.dtype))
    out = call(pixels, points, **_attributes(plan)).reshape(shape)
    return [out.astype(image.dtype)]


def cotangents(
    image: jax.Array,
    points: jax.Array,
    out_bar: jax.Array,
    *,
    plan: Plan,
    needs_grad: tuple[bool, bool],
) -> list[jax.Array]:
    """Compute the gradients of the images, of the points, or of both.

    ``needs_grad`` has one flag for the images and one for the points.
    """
    return _cotangents(COTANGENTS, (image, points), (), out_bar, needs_grad, plan)


def warp_values(
    image: jax.Array,
    theta: jax.Array,
    *,
    plan: Plan,
    size: tuple[int, ...],
    source: Any,
) -> list[jax.Array]:
    """Sample images ``(P, *size, C)`` on the grids of theta ``(P, M, rows, columns)``.

    Returns:
      ``[(P, M, *size, C)]``, with the output's size.
    """
    pixels = _as_precise_as(theta, image)
    shape = (*theta.shape[:2], *size, image.shape[-1])
    call = jax.ffi.ffi_call(WARP_VALUES, _flat(shape, pixels.dtype))
    table, grids = _grids(theta, plan, size, source)
    out = call(pixels, theta, table, **grids, **_attributes(plan)).reshape(shape)
    return [out.astype(image.dtype)]


def warp_cotangents(
    image: jax.Array,
    theta: jax.Array,
    out_bar: jax.Array,
    *,
    plan: Plan,
    size: tuple[int, ...],
    source: Any,
    needs_grad: tuple[bool, bool],
) -> list[jax.Array]:
    """Compute the gradients of the images, of theta, or of both."""
    table, grids = _grids(theta, plan, size, source)
    arrays = image, theta
    return _cotangents(
        WARP_COTANGENTS, arrays, (table,), out_bar, needs_grad, plan, **grids
    )


def prefilter(
    image: jax.Array, *, axis: int, spline: Spline, is_transposed: bool
) -> jax.Array:
    """Compute the coefficients of the splines along one axis, or their transpose."""
    before, (n, *after) = image.shape[:axis], image.shape[axis:]
    # beyond its ends the kernel goes on with the last pixels, as "border" does
    kept = margin(spline.padding_mode)
    extra = kept or FARTHEST
    result = (*before, spline.n if is_transposed else spline.size, *after)
    out = jax.ffi.ffi_call(PREFILTER, _flat(result, image.dtype))(
        image.reshape(math.prod(before), n, math.prod(after)),
        jnp.asarray(spline.pixels(extra), jnp.int32),
        n=np.int64(spline.n),
        skip=np.int64(extra - kept),
        poles=spline.poles(),
        is_transposed=is_transposed,
    )
    return out.reshape(result)


def _cotangents(
    name: str,
    arrays: tuple[jax.Array, jax.Array],
    tables: tuple[jax.Array, ...],
    out_bar: jax.Array,
    needs_grad: tuple[bool, bool],
    plan: Plan,
    **options: Any,
) -> list[jax.Array]:
    """Call a function for the gradients of the images, and of what says where."""
    image, where = arrays
    pixels, out_bar = _as_precise_as(where, image), _as_precise_as(where, out_bar)
    both = zip((pixels, where), needs_grad, strict=True)
    inputs = [x for x, is_needed in both if is_needed]
    call = jax.ffi.ffi_call(name, [_flat(x.shape, x.dtype) for x in inputs])
    needed = {"needs_image_grad": needs_grad[0], "needs_where_grad": needs_grad[1]}
    options |= needed | _attributes(plan)
    found = call(pixels, where, *tables, out_bar.ravel(), **options)
    found = [bar.reshape(x.shape) for bar, x in zip(found, inputs, strict=True)]
    return [found[0].astype(image.dtype), *found[1:]] if needs_grad[0] else found


def _grids(
    theta: jax.Array, plan: Plan, size: tuple[int, ...], source: Any
) -> tuple[jax.Array, dict[str, Any]]:
    """Describe grids to the kernel: the table that goes with theta, and the options."""
    table = source.table(size, plan.axes[0].align_corners)
    options = {"size": np.array(size, np.int64), "is_spline": source.is_spline}
    return jnp.asarray(table, theta.dtype), options


def _as_precise_as(where: jax.Array, pixels: jax.Array) -> jax.Array:
    """Make the pixels float64 where the points or theta are: all have one type."""
    return pixels.astype(where.dtype) if where.dtype == jnp.float64 else pixels


def _flat(shape: tuple[int, ...], dtype: jnp.dtype) -> jax.ShapeDtypeStruct:
    """Describe a flat result: an array of one dimension has only one layout.

    For a result of one channel in several dimensions XLA may choose another layout than
    the kernel's, and then copies the array.
    """
    return jax.ShapeDtypeStruct((math.prod(shape),), dtype)


def _attributes(plan: Plan) -> dict[str, Any]:
    """Describe the plan to the kernel, where pixel = half * coordinate + center."""
    rules, halves, centers = [], [], []
    for axis in plan.axes:
        is_mirror = axis.padding_mode == "reflection" and axis.align_corners
        # the caller adds the fill value
        rule = {"constant": "zeros"}.get(axis.padding_mode, axis.padding_mode)
        rules.append(RULES.index("mirror" if is_mirror else rule))
        center, half = center_and_half(axis.n, axis.align_corners)
        is_pixel = axis.coordinates == "pixel"
        halves.append(1.0 if is_pixel else half)
        centers.append(0.0 if is_pixel else center)
    weights = polynomials(plan.method)
    return {
        "rules": np.array(rules, np.int32),
        "margins": np.array([axis.margin for axis in plan.axes], np.int32),
        "halves": np.array(halves, np.float64),
        "centers": np.array(centers, np.float64),
        "taps": np.int32(len(weights)),
        "weights": weights.ravel(),
    }

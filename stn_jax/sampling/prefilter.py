"""The coefficients of the splines through an image's pixels.

Along each axis they are a matrix product with the inverse of A (see ``splines``), which
NumPy computes in float64 while tracing. The compiled CPU kernel computes them by
recursions instead, whose time does not grow with the product of n and n. The product is
a linear primitive, so that each platform has its own.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from . import cpu, dispatch
from .primitive import lower
from .splines import Spline


def coefficients(
    image: jax.Array, degree: int, modes: tuple[str, ...], align_corners: bool
) -> jax.Array:
    """The spline coefficients of an image, ``(*batch, *(n + 2 * margin), C)``.

    Under "zeros" and "constant" the image is surrounded by zeros: subtract the fill
    value first.
    """
    if jnp.iscomplexobj(image):
        parts = (image.real, image.imag)
        return jax.lax.complex(
            *(coefficients(part, degree, modes, align_corners) for part in parts)
        )
    for offset, mode in enumerate(modes):
        axis = image.ndim - 1 - len(modes) + offset
        spline = Spline(degree, image.shape[axis], mode, align_corners)
        image = _PREFILTER.bind(image, axis=axis, spline=spline, is_transposed=False)
    return image


def _plain(
    image: jax.Array, *, axis: int, spline: Spline, is_transposed: bool
) -> jax.Array:
    """The matrix product along one axis."""
    matrix = jnp.asarray(spline.matrix(), image.dtype)
    over = 0 if is_transposed else 1
    product = jnp.tensordot(matrix, image, (over, axis), precision="highest")
    return jnp.moveaxis(product, 0, axis)


def _on_cpu(context: Any, image: Any, **static: Any) -> Any:
    is_compiled = dispatch.has_cpu_prefilter(context)
    function = cpu.prefilter if is_compiled else _plain
    return lower(lambda *a, **s: [function(*a, **s)], context, image, **static)


def _with_coefficients(
    image: Any, *, axis: int, spline: Spline, is_transposed: bool
) -> Any:
    shape = [*image.shape]
    shape[axis] = spline.n if is_transposed else spline.size
    return image.update(shape=tuple(shape))


def _transpose(
    out_bar: Any, image: Any, *, axis: int, spline: Spline, is_transposed: bool
) -> list[Any]:
    return [
        _PREFILTER.bind(
            out_bar, axis=axis, spline=spline, is_transposed=not is_transposed
        )
    ]


def _prefilter_mapped(
    arrays: Any, dims: Any, *, axis: int, **static: Any
) -> tuple[Any, int]:
    image = jnp.moveaxis(arrays[0], dims[0], 0)
    return _PREFILTER.bind(image, axis=axis + 1, **static), 0


_PREFILTER = Primitive("stn_jax_prefilter")
_PREFILTER.def_impl(
    jax.jit(_PREFILTER.bind, static_argnames=("axis", "spline", "is_transposed"))
)
_PREFILTER.def_abstract_eval(_with_coefficients)
mlir.register_lowering(_PREFILTER, mlir.lower_fun(_plain, multiple_results=False))
mlir.register_lowering(_PREFILTER, _on_cpu, platform="cpu")
ad.deflinear2(_PREFILTER, _transpose)
batching.primitive_batchers[_PREFILTER] = _prefilter_mapped

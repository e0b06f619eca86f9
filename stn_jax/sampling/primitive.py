"""Reading images at points, as a primitive of JAX's: its derivatives and its batches.

It has three operations, all on ``images (P, *size, C)`` read at ``points (P, M, n)``:
the values ``(P, M, C)``, their tangents, and the cotangents of images and points. Each
is defined by plain JAX (``_values``), which also defines all higher derivatives; on a
CPU the cotangents are those of :mod:`stn_jax.sampling.gradients`. A mapped axis is
folded: into P if each example has its own image, else into M, so that a shared image is
never copied.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from . import cpu, dense, dispatch, gather, gradients, kernels
from .plan import Axis

# those that are read so; one tap without a slope, "nearest" gains nothing by it
METHODS = tuple(name for name in kernels.METHODS if name != "nearest")


def read(
    image: jax.Array,
    points: jax.Array,
    *,
    method: str,
    axes: tuple[Axis, ...],
    implementation: str | None = None,
) -> jax.Array:
    """One image ``(*size, C)`` at points ``(*shape, n)``: ``(*shape, C)`` of its dtype,
    with zeros where no pixel is, and NaN at a point with a NaN.

    By gathers or by dense products; where ``implementation`` does not say, as
    :mod:`stn_jax.sampling.dispatch` has it for the platform.
    """
    image, points = _all_varying(image, points)
    *shape, n = points.shape
    flat = points.reshape(1, math.prod(shape), n)
    options = {"method": method, "axes": axes, "implementation": implementation}
    (out,) = _values_p.bind(image[None], flat, **options)
    return out.reshape(*shape, image.shape[-1])


# what the operations are


def _values(
    image: jax.Array, points: jax.Array, *, implementation: str | None, **options: Any
) -> list[jax.Array]:
    is_dense = implementation == "dense"
    weighted_sum = dense.weighted_sum if is_dense else gather.weighted_sum

    def one(image: jax.Array, points: jax.Array) -> jax.Array:
        is_nan = jnp.isnan(points).any(axis=-1, keepdims=True)
        out = weighted_sum(image, jnp.where(is_nan, 0, points), **options)
        return jnp.where(is_nan, jnp.nan, out).astype(image.dtype)

    return [jax.vmap(one)(image, points)]


def _tangents(
    image: jax.Array,
    points: jax.Array,
    *dots: jax.Array,
    wants: tuple[bool, bool],
    **options: Any,
) -> list[jax.Array]:
    """``dots`` are the tangents of what ``wants`` says."""
    function, primals = _of_wanted(image, points, wants, options)
    return jax.jvp(function, primals, dots)[1]


def _cotangents(
    image: jax.Array,
    points: jax.Array,
    out_bar: jax.Array,
    *,
    wants: tuple[bool, bool],
    **options: Any,
) -> list[jax.Array]:
    function, primals = _of_wanted(image, points, wants, options)
    return [*jax.vjp(function, *primals)[1]([out_bar])]


def _of_wanted(
    image: jax.Array, points: jax.Array, wants: tuple[bool, bool], options: Any
) -> tuple[Callable[..., list[jax.Array]], tuple[jax.Array, ...]]:
    """The values as a function of the image, of the points, or of both."""
    both = (image, points)

    def function(*wanted: jax.Array) -> list[jax.Array]:
        given = iter(wanted)
        full = [next(given) if w else x for w, x in zip(wants, both, strict=True)]
        return _values(*full, **options)

    return function, tuple(x for w, x in zip(wants, both, strict=True) if w)


# how JAX derives and maps them


def _primitive(
    name: str,
    plain: Callable,
    fast: Callable | None = None,
    compiled: Callable | None = None,
) -> Primitive:
    """An operation of several arrays, defined by ``plain``.

    On a CPU gathers run as ``fast``, or ``compiled`` where there is a reader; a TPU has
    small images read by products.
    """

    def on_cpu(context: Any, *arrays: Any, **options: Any) -> Any:
        function = plain
        if options["implementation"] != "dense":
            is_taken = compiled and cpu.takes(context, options["method"])
            function = (compiled if is_taken else fast) or plain
        return _lower(function, context, *arrays, **options)

    def on_tpu(context: Any, *arrays: Any, **options: Any) -> Any:
        _, *size, _ = context.avals_in[0].shape
        if options["implementation"] is None and dispatch.is_dense("tpu", size):
            options["implementation"] = "dense"
        return _lower(plain, context, *arrays, **options)

    primitive = Primitive(name)
    primitive.multiple_results = True
    static = ("method", "axes", "implementation", "wants")
    primitive.def_impl(jax.jit(primitive.bind, static_argnames=static))
    primitive.def_abstract_eval(partial(_abstract, plain))
    mlir.register_lowering(primitive, partial(_lower, plain))
    mlir.register_lowering(primitive, on_cpu, platform="cpu")
    mlir.register_lowering(primitive, on_tpu, platform="tpu")
    return primitive


def _lower(function: Callable, context: Any, *arrays: Any, **options: Any) -> Any:
    rule = mlir.lower_fun(function, multiple_results=True)
    return rule(context, *arrays, **options)


def _abstract(plain: Callable, *avals: Any, **options: Any) -> list[Any]:
    """Shapes and dtypes as ``plain`` has them, on the devices where the points are."""
    structs = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in avals]
    found = jax.eval_shape(partial(plain, **options), *structs)
    return [avals[1].update(shape=x.shape, dtype=x.dtype) for x in found]


_values_p = _primitive("stn_jax_values", _values, compiled=cpu.values)
_tangents_p = _primitive("stn_jax_tangents", _tangents)
_cotangents_p = _primitive(
    "stn_jax_cotangents", _cotangents, gradients.cotangents, cpu.cotangents
)


def _values_jvp(primals: Sequence, tangents: Sequence, **options: Any) -> tuple:
    out = _values_p.bind(*primals, **options)
    wants = tuple(type(tangent) is not ad.Zero for tangent in tangents)
    dots = [t for t, want in zip(tangents, wants, strict=True) if want]
    return out, _tangents_p.bind(*primals, *dots, wants=wants, **options)


def _plain_jvp(
    plain: Callable, primals: Sequence, tangents: Sequence, **options: Any
) -> tuple:
    """Of the derivatives, of any order: what plain JAX makes of their definition."""
    tangents = [
        jnp.zeros_like(p) if type(t) is ad.Zero else t
        for p, t in zip(primals, tangents, strict=True)
    ]
    return jax.jvp(partial(plain, **options), tuple(primals), tuple(tangents))


def _tangents_transpose(
    out_bars: Sequence,
    image: jax.Array,
    points: jax.Array,
    *dots: Any,
    wants: tuple[bool, bool],
    **options: Any,
) -> list[Any]:
    (out_bar,) = out_bars
    if type(out_bar) is ad.Zero:
        return [None] * (2 + len(dots))
    found = _cotangents_p.bind(image, points, out_bar, wants=wants, **options)
    return [None, None, *found]


ad.primitive_jvps[_values_p] = _values_jvp
ad.primitive_jvps[_tangents_p] = partial(_plain_jvp, _tangents)
ad.primitive_jvps[_cotangents_p] = partial(_plain_jvp, _cotangents)
ad.primitive_transposes[_tangents_p] = _tangents_transpose


def _batch(
    primitive: Primitive, arrays: Sequence, dims: Sequence, **options: Any
) -> tuple[list[jax.Array], list[int]]:
    """Fold a mapped axis into P, or into M where no image is mapped."""
    wants = options.get("wants", (False, False))
    is_image = [True, False]
    if primitive is _tangents_p:
        is_image += [kind for kind, want in zip(is_image, wants, strict=True) if want]
    if primitive is _cotangents_p:
        is_image += [False]
    mapped = [dim is not None for dim in dims]
    is_own = any(m and i for m, i in zip(mapped, is_image, strict=True))
    # the gradient of a shared image is due for each example, not their sum
    is_own |= primitive is _cotangents_p and wants[0]
    (size,) = {a.shape[d] for a, d, m in zip(arrays, dims, mapped, strict=True) if m}

    def fold(array: jax.Array, dim: int, is_mapped: bool, is_image: bool) -> jax.Array:
        if is_image and not is_own:
            return array
        if is_mapped:
            array = jnp.moveaxis(array, dim, 0)
        else:
            array = jnp.broadcast_to(array[None], (size, *array.shape))
        if is_own:
            return array.reshape(size * array.shape[1], *array.shape[2:])
        array = jnp.moveaxis(array, 0, 1)  # (P, size, M, ...)
        return array.reshape(array.shape[0], size * array.shape[2], *array.shape[3:])

    each = zip(arrays, dims, mapped, is_image, strict=True)
    found = primitive.bind(*_all_varying(*(fold(*one) for one in each)), **options)
    axis = 0 if is_own else 1
    inner = [n for d, n in enumerate(arrays[1].shape) if d != dims[1]][axis]
    return [
        x.reshape(*x.shape[:axis], size, inner, *x.shape[axis + 1 :]) for x in found
    ], [axis] * len(found)


for _p in (_values_p, _tangents_p, _cotangents_p):
    batching.primitive_batchers[_p] = partial(_batch, _p)


def _all_varying(*arrays: jax.Array) -> list[jax.Array]:
    """Inside ``jax.shard_map``: varying over all axes over which one of them is."""
    union = frozenset().union(*map(_axes_of_variation, arrays))
    cast = getattr(lax, "pcast", None)  # jax 0.10 and later
    cast = partial(cast, to="varying") if cast else getattr(lax, "pvary", None)
    return [
        cast(array, missing) if cast and missing else array
        for array in arrays
        for missing in [tuple(union - _axes_of_variation(array))]
    ]


def _axes_of_variation(array: jax.Array) -> frozenset[str]:
    aval = jax.typeof(array)
    kind = getattr(aval, "manual_axis_type", None)
    return frozenset(kind.varying if kind else getattr(aval, "vma", ()))

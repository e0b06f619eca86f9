"""JAX primitives for sampling: jvp, transpose, vmap, and a lowering for each platform.

A family of primitives has three operations on images ``(P, *size, C)`` and what says
where to sample them, ``(P, M, ...)``: the values ``(P, M, ...)``, their tangents, and
the cotangents of both inputs. Plain JAX defines each of them, and all higher
derivatives. A mapped axis is folded: into P if each example has its own image, else
into M, so that a shared image is never copied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from .plan import Plan

Values = Callable[..., jax.Array]  # (image, where, *, plan, ...) -> values
Lowering = Callable[..., Any]  # (context, *arrays, **static) -> MLIR values
OnTpu = Callable[..., tuple[Values, Plan]]  # (context, plan, **static) -> what runs


class Family(NamedTuple):
    """The primitives of the values, their tangents and their cotangents."""

    values: Primitive
    tangents: Primitive
    cotangents: Primitive


def make_family(
    name: str,
    values: Values,
    on_tpu: OnTpu,
    cpu_rules: Sequence[Lowering | None] = (None, None, None),
) -> Family:
    """A family of primitives.

    Args:
      name: of the primitives.
      values: the definition, which all platforms but a TPU run.
      on_tpu: maps the lowering context, the plan and other static arguments to what a
        TPU runs instead.
      cpu_rules: lowering rules for a CPU, in the order of the operations.
    """
    operations = (plain_values, plain_tangents, plain_cotangents)
    family = Family(*(Primitive(f"stn_jax_{name}_{f}") for f in Family._fields))
    for primitive, operation, cpu_rule in zip(
        family, operations, cpu_rules, strict=True
    ):
        plain = partial(operation, values)
        _define(primitive, plain)
        tpu_rule = partial(_lower_on_tpu, operation, on_tpu)
        mlir.register_lowering(primitive, tpu_rule, platform="tpu")
        if cpu_rule:
            mlir.register_lowering(primitive, cpu_rule, platform="cpu")
        batching.primitive_batchers[primitive] = partial(_batch, family, primitive)
    ad.primitive_jvps[family.values] = partial(_values_jvp, family)
    ad.primitive_transposes[family.values] = partial(_values_transpose, family)
    ad.primitive_transposes[family.tangents] = partial(_tangents_transpose, family)
    for primitive, operation in zip(family[1:], operations[1:], strict=True):
        ad.primitive_jvps[primitive] = partial(_plain_jvp, partial(operation, values))
    return family


# What the operations compute, given the definition of the values


def plain_values(values: Values, *arrays: jax.Array, **static: Any) -> list[jax.Array]:
    """The values themselves."""
    return [values(*arrays, **static)]


def plain_tangents(
    values: Values,
    image: jax.Array,
    where: jax.Array,
    *dots: jax.Array,
    needs_grad: tuple[bool, bool],
    **static: Any,
) -> list[jax.Array]:
    """The tangents of the values; ``dots`` are those of the inputs that ``needs_grad``
    marks.
    """
    function, primals = _of_needed(values, (image, where), needs_grad, static)
    return [jax.jvp(function, primals, dots)[1]]


def plain_cotangents(
    values: Values,
    image: jax.Array,
    where: jax.Array,
    out_bar: jax.Array,
    *,
    needs_grad: tuple[bool, bool],
    **static: Any,
) -> list[jax.Array]:
    """The cotangents of the inputs that ``needs_grad`` marks."""
    function, primals = _of_needed(values, (image, where), needs_grad, static)
    return [*jax.vjp(function, *primals)[1](out_bar)]


def _of_needed(
    values: Values,
    inputs: tuple[jax.Array, jax.Array],
    needs_grad: tuple[bool, bool],
    static: dict[str, Any],
) -> tuple[Values, tuple[jax.Array, ...]]:
    """The values as a function of the inputs that ``needs_grad`` marks, and these."""

    def function(*needed: jax.Array) -> jax.Array:
        given = iter(needed)
        both = zip(inputs, needs_grad, strict=True)
        return values(*(next(given) if n else x for x, n in both), **static)

    return function, tuple(x for x, n in zip(inputs, needs_grad, strict=True) if n)


# How JAX lowers, differentiates and maps them


def _define(primitive: Primitive, plain: Callable[..., list[jax.Array]]) -> None:
    """Make ``plain`` the primitive's definition on every platform."""
    primitive.multiple_results = True
    static = ("plan", "needs_grad", "size", "source")
    primitive.def_impl(jax.jit(primitive.bind, static_argnames=static))
    primitive.def_abstract_eval(partial(_abstract, plain))
    mlir.register_lowering(primitive, partial(lower, plain))


def lower(function: Callable, context: Any, *arrays: Any, **static: Any) -> Any:
    """Lower a primitive as this function of its arrays."""
    rule = mlir.lower_fun(function, multiple_results=True)
    return rule(context, *arrays, **static)


def _lower_on_tpu(
    operation: Callable,
    on_tpu: OnTpu,
    context: Any,
    *arrays: Any,
    plan: Plan,
    **static: Any,
) -> Any:
    values, plan = on_tpu(context, plan, **static)
    return lower(partial(operation, values), context, *arrays, plan=plan, **static)


def _abstract(plain: Callable, *avals: Any, **static: Any) -> list[Any]:
    """Shapes and dtypes as ``plain`` has them, on the devices where the points are."""
    structs = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in avals]
    found = jax.eval_shape(partial(plain, **static), *structs)
    return [avals[1].update(shape=x.shape, dtype=x.dtype) for x in found]


def _values_jvp(
    family: Family, primals: Sequence, tangents: Sequence, **static: Any
) -> tuple:
    out = family.values.bind(*primals, **static)
    needs_grad = tuple(type(tangent) is not ad.Zero for tangent in tangents)
    dots = [t for t, is_needed in zip(tangents, needs_grad, strict=True) if is_needed]
    dots = family.tangents.bind(*primals, *dots, needs_grad=needs_grad, **static)
    return out, dots


def _plain_jvp(
    plain: Callable, primals: Sequence, tangents: Sequence, **static: Any
) -> tuple:
    """Derivatives of the derivatives, of any order, by plain JAX."""
    tangents = [
        jnp.zeros_like(p) if type(t) is ad.Zero else t
        for p, t in zip(primals, tangents, strict=True)
    ]
    return jax.jvp(partial(plain, **static), tuple(primals), tuple(tangents))


def _values_transpose(
    family: Family, out_bars: Sequence, image: Any, where: Any, **static: Any
) -> list[Any]:
    """The values are linear in the image, whose cotangent does not depend on it."""
    (out_bar,) = out_bars
    if type(out_bar) is ad.Zero:
        return [None, None]
    if ad.is_undefined_primal(where):
        raise NotImplementedError("samples are linear in the image, not in the grid")
    image = jnp.zeros(image.aval.shape, image.aval.dtype)
    arrays = all_varying(image, where, out_bar)
    needs_grad = (True, False)
    (image_bar,) = family.cotangents.bind(*arrays, needs_grad=needs_grad, **static)
    return [image_bar, None]


def _tangents_transpose(
    family: Family,
    out_bars: Sequence,
    image: jax.Array,
    where: jax.Array,
    *dots: Any,
    **static: Any,
) -> list[Any]:
    (out_bar,) = out_bars
    if type(out_bar) is ad.Zero:
        return [None] * (2 + len(dots))
    return [None, None, *family.cotangents.bind(image, where, out_bar, **static)]


def _batch(
    family: Family,
    primitive: Primitive,
    arrays: Sequence,
    dims: Sequence,
    **static: Any,
) -> tuple[list[jax.Array], list[int]]:
    """Fold a mapped axis into P, or into M where no image is mapped."""
    is_mapped = [dim is not None for dim in dims]
    is_image = _which_are_images(family, primitive, static)
    into_images = any(m and i for m, i in zip(is_mapped, is_image, strict=True))
    # the gradient of a shared image is computed for each example, not their sum
    into_images |= primitive is family.cotangents and static["needs_grad"][0]
    (size,) = {a.shape[d] for a, d in zip(arrays, dims, strict=True) if d is not None}
    folded = [
        array if image and not into_images else _fold(array, dim, size, into_images)
        for array, dim, image in zip(arrays, dims, is_image, strict=True)
    ]
    found = primitive.bind(*all_varying(*folded), **static)
    axis = 0 if into_images else 1
    inner = [n for d, n in enumerate(arrays[1].shape) if d != dims[1]][axis]
    return [
        x.reshape(*x.shape[:axis], size, inner, *x.shape[axis + 1 :]) for x in found
    ], [axis] * len(found)


def _which_are_images(
    family: Family, primitive: Primitive, static: dict[str, Any]
) -> list[bool]:
    """For each array of an operation, whether it has the shape of the images."""
    is_image = [True, False]
    if primitive is family.tangents:
        both = zip((True, False), static["needs_grad"], strict=True)
        is_image += [image for image, is_needed in both if is_needed]
    if primitive is family.cotangents:
        is_image += [False]
    return is_image


def _fold(array: jax.Array, dim: int | None, size: int, into_images: bool) -> jax.Array:
    """An array with its mapped axis, of ``size``, folded into P or into M."""
    if dim is not None:
        array = jnp.moveaxis(array, dim, 0)
    else:
        array = jnp.broadcast_to(array[None], (size, *array.shape))
    if into_images:
        return array.reshape(size * array.shape[1], *array.shape[2:])
    array = jnp.moveaxis(array, 0, 1)  # (P, size, M, ...)
    return array.reshape(array.shape[0], size * array.shape[2], *array.shape[3:])


def all_varying(*arrays: jax.Array) -> list[jax.Array]:
    """Inside ``jax.shard_map``: make all arrays vary over the axes that one varies
    over.
    """
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

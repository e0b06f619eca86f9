"""From one example to any leading axes, in one program."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

Out = TypeVar("Out")  # an array, or a tuple of arrays


def lift(
    function: Callable[..., Out],
    signature: str,
    *,
    static: Mapping[str, Any] | None = None,
    compiled: bool = True,
    **arrays: jax.Array,
) -> Out:
    """Apply a function of one example over the leading axes of the arrays.

    The leading axes broadcast. An array that lacks one of them is not copied along it:
    it stays unmapped under ``jax.vmap``. Outside of ``jax.jit`` the function is
    compiled as well, once for the same static arguments and shapes.

    Args:
      function: takes the arrays and the static arguments, all by name.
      signature: the axes of one example for each array, in order, as in
        ``jnp.vectorize``: "(H,W,C),(h,w,n)->(h,w,C)".
      static: hashable arguments.
      compiled: False where a static argument holds a function, which may be another
        one at each call, or traced values.
      **arrays: by the function's names for them, which errors use too.

    Raises:
      ValueError: the leading axes do not broadcast.
    """
    inputs = re.findall(r"\(([^)]*)\)", signature.split("->")[0])
    cores = [len(axes.split(",")) if axes else 0 for axes in inputs]
    batches = {
        name: array.shape[: array.ndim - core]
        for (name, array), core in zip(arrays.items(), cores, strict=True)
    }
    check_broadcast(batches)
    # of one rank, for users who forbid rank promotion in their programs
    rank = max(len(axes) for axes in batches.values())
    aligned = [
        jnp.expand_dims(array, range(rank - len(axes)))
        for array, axes in zip(arrays.values(), batches.values(), strict=True)
    ]
    run = _compiled if compiled else _vectorized
    return run(function, signature, (*arrays,), (*(static or {}).items(),), *aligned)


def check_broadcast(batches: dict[str, tuple[int, ...]]) -> None:
    """The leading axes of arrays, by their names, must broadcast."""
    if _fit(*batches.values()):
        return
    batches = {name: axes for name, axes in batches.items() if axes}
    got = " and ".join(f"{axes} of {name}" for name, axes in batches.items())
    remedy = ""
    if len(batches) == 2:
        (first, axes), (_, others) = batches.items()
        if len(axes) == 1 and _fit((*axes, 1), others):
            remedy = f". For several to each {first}, add an axis: {first}[:, None]"
    raise ValueError(f"leading axes must broadcast; got {got}{remedy}")


def _fit(*batches: tuple[int, ...]) -> bool:
    try:
        jnp.broadcast_shapes(*batches)
    except ValueError:
        return False
    return True


def _vectorized(
    function: Callable[..., Out],
    signature: str,
    names: tuple[str, ...],
    static: tuple[tuple[str, Any], ...],
    *arrays: jax.Array,
) -> Out:
    def one(*arrays: jax.Array) -> Out:
        return function(**dict(zip(names, arrays, strict=True)), **dict(static))

    return jnp.vectorize(one, signature=signature)(*arrays)


_compiled = jax.jit(_vectorized, static_argnums=(0, 1, 2, 3))

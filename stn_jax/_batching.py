"""From one image to any leading axes, in one program."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp


def lift(
    function: Callable[..., jax.Array],
    signature: str,
    options: dict[str, Any] | None = None,
    *,
    compiled: bool = True,
    **arrays: jax.Array,
) -> jax.Array:
    """Apply a function of single examples over the leading axes of the arrays.

    The leading axes broadcast; an array that lacks one is not copied along it, but
    stays as it is under ``jax.vmap``. Outside of ``jax.jit`` the function runs as one
    program all the same, compiled once for the same options and shapes.

    Args:
      function: takes the arrays in order, with the axes of ``signature`` alone, and the
        options by name.
      signature: those axes, as in ``jnp.vectorize``: "(H,W,C),(h,w,n)->(h,w,C)".
      options: hashable.
      compiled: False where the options hold a function that may be another at each
        call, or hold traced values.
      **arrays: by the names that an error should give them.
    """
    inputs = re.findall(r"\(([^)]*)\)", signature.split("->")[0])
    cores = [len(axes.split(",")) if axes else 0 for axes in inputs]
    batches = {
        name: array.shape[: array.ndim - core]
        for (name, array), core in zip(arrays.items(), cores, strict=True)
    }
    try:
        jnp.broadcast_shapes(*batches.values())
    except ValueError:
        got = " and ".join(f"{axes} of {name}" for name, axes in batches.items())
        raise ValueError(f"leading axes must broadcast; got {got}") from None
    # of one rank, for those who forbid rank promotion in their programs
    rank = max(len(axes) for axes in batches.values())
    aligned = [
        jnp.expand_dims(array, range(rank - len(axes)))
        for array, axes in zip(arrays.values(), batches.values(), strict=True)
    ]
    run = _compiled if compiled else _vectorized
    return run(function, signature, tuple((options or {}).items()), *aligned)


def _vectorized(
    function: Callable[..., jax.Array],
    signature: str,
    options: tuple[tuple[str, Any], ...],
    *arrays: jax.Array,
) -> jax.Array:
    one = partial(function, **dict(options))
    return jnp.vectorize(one, signature=signature)(*arrays)


_compiled = jax.jit(_vectorized, static_argnums=(0, 1, 2))

"""From one image to any leading axes."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp


def lift(
    function: Callable[..., jax.Array], signature: str, **arrays: jax.Array
) -> jax.Array:
    """Apply a function of single examples over the leading axes of the arrays.

    The leading axes broadcast; an array that lacks one is not copied along it, but
    stays as it is under ``jax.vmap``.

    Args:
      function: takes the arrays in order, with the axes of ``signature`` alone.
      signature: those axes, as in ``jnp.vectorize``: "(H,W,C),(h,w,n)->(h,w,C)".
      **arrays: by the names that an error should give them.
    """
    cores = [core.count(",") + 1 for core in signature.split("->")[0].split("),")]
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
    return jnp.vectorize(function, signature=signature)(*aligned)

"""Windows that tile the image: where transformers side by side start."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from .._checks import as_positive, as_size
from .base import MatrixFamily, homogeneous


def tiles(
    transform: MatrixFamily, counts: Sequence[int], scale: float | None = None
) -> jax.Array:
    """The parameters of windows that tile the image, in rows: ``(prod(counts), P)``.

    The windows are spaced evenly along each axis. The outermost ones touch the image's
    edges; a single one lies in the middle.

    Args:
      transform: a family of matrices that can scale, such as ``Attention(scale=0.5)``.
      counts: the number of windows along each axis, ``(rows, columns)`` or ``(layers,
        rows, columns)``.
      scale: of each window, as a fraction of the image; at most 1. Default: that of
        the family if it is fixed, else ``1 / max(counts)``, where no two overlap.

    Raises:
      TypeError: ``transform`` is not a family of matrices.
      ValueError: counts that are not positive integers, one for each axis; a scale
        above 1; a family that has no such windows.

    >>> from stn_jax.transforms import Attention
    >>> tiles(Attention(scale=0.5), (1, 2))  # the left and the right half
    Array([[-0.5,  0. ],
           [ 0.5,  0. ]], dtype=float32)
    """
    if not isinstance(transform, MatrixFamily):
        raise TypeError(f"transform must be a family of matrices; got {transform!r}")
    ndim = transform.ndim
    expected = "counts must be positive integers, one for each axis of the image"
    counts = as_size(counts, expected, ndims=(ndim,))
    if scale is None:
        scale = getattr(transform, "scale", None) or 1 / max(counts)
    scale = as_positive(scale, "scale")
    if scale > 1:
        raise ValueError(f"scale must be at most 1, the whole image; got {scale}")
    with jax.ensure_compile_time_eval():
        lines = [
            jnp.linspace(scale - 1, 1 - scale, count) if count > 1 else jnp.zeros(1)
            for count in counts
        ]
        centers = [point[::-1] for point in itertools.product(*lines)]  # x first
        wanted = jnp.stack(
            [homogeneous(scale * jnp.eye(ndim), jnp.stack(c)) for c in centers]
        )
        params = transform.params(wanted)
        if not jnp.allclose(transform.matrix(params), wanted, atol=1e-6):
            raise ValueError(f"{transform} has no windows of scale {scale}")
    return params

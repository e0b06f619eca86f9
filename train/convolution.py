"""A convolution whose gradients are fast on a CPU too."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def convolve(
    images: jax.Array,
    kernel: jax.Array,
    window_strides: Sequence[int],
    padding: Any,
    **options: Any,
) -> jax.Array:
    """``lax.conv_general_dilated`` for channels last, as Flax's layers call it.

    XLA's CPU backend runs the gradients of a convolution several times slower than the
    convolution itself. There the images' patches, side by side in a matrix, are
    multiplied with the kernel: the gradients then are matrix products as well.

    This program runs where it is compiled; one that is exported should choose by
    ``lax.platform_dependent``.
    """
    is_plain = options.get("feature_group_count", 1) == 1 and all(
        n == 1
        for name in ("lhs_dilation", "rhs_dilation")
        for n in options.get(name) or ()
    )
    if jax.default_backend() != "cpu" or not is_plain:
        return lax.conv_general_dilated(
            images, kernel, window_strides, padding, **options
        )
    return by_patches(images, kernel, window_strides, padding, options.get("precision"))


def by_patches(
    images: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    precision: Any = None,
) -> jax.Array:
    """``(B, H, W, C)`` with ``(kh, kw, C, F)`` to ``(B, h, w, F)``, as one product; of
    volumes alike.
    """
    *extent, channels, features = kernel.shape
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(images.shape[1:-1], extent, strides, padding)
    images = jnp.pad(images, [(0, 0), *padding, (0, 0)])
    size = [
        (n - k) // stride + 1
        for n, k, stride in zip(images.shape[1:-1], extent, strides, strict=True)
    ]
    shifted = []  # the pixels that each entry of the kernel meets
    for starts in itertools.product(*map(range, extent)):
        steps = zip(starts, size, strides, strict=True)
        where = [slice(i, i + stride * (n - 1) + 1, stride) for i, n, stride in steps]
        shifted.append(images[:, *where])
    patches = jnp.concatenate(shifted, axis=-1)
    products = jnp.matmul(
        patches.reshape(len(images) * math.prod(size), -1),
        kernel.reshape(math.prod(extent) * channels, features),
        precision=precision,
    )
    return products.reshape(len(images), *size, features)

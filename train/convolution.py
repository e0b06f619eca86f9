"""A convolution whose gradients are fast on a CPU too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

NARROW = 32  # features; with more the patches of one channel are pixel by pixel too


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

    The patches lie pixel by pixel, ``(B h w, kh kw C)``, but those of one channel entry
    by entry, ``(kh kw, B h w)``, where whole rows are copied instead of single numbers.
    """
    *extent, channels, features = kernel.shape
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(images.shape[1:-1], extent, strides, padding)
    images = jnp.pad(images, [(0, 0), *padding, (0, 0)])
    size = [
        (n - k) // stride + 1
        for n, k, stride in zip(images.shape[1:-1], extent, strides, strict=True)
    ]
    # one axis after the other: the pixels that each entry of the kernel meets
    one_channel = channels == 1 and features <= NARROW
    patches = images[None, ..., 0] if one_channel else images
    for axis in reversed(range(len(extent))):
        spatial = axis + 1 + one_channel
        reach = strides[axis] * (size[axis] - 1) + 1
        shifted = [
            lax.slice_in_dim(patches, i, i + reach, strides[axis], spatial)
            for i in range(extent[axis])
        ]
        patches = jnp.concatenate(shifted, axis=0 if one_channel else -1)
    entries, pixels = kernel.size // features, len(images) * math.prod(size)
    contracted = 0 if one_channel else 1
    products = lax.dot_general(
        patches.reshape((entries, pixels) if one_channel else (pixels, entries)),
        kernel.reshape(entries, features),
        (((contracted,), (0,)), ((), ())),
        precision=precision,
    )
    return products.reshape(len(images), *size, features)

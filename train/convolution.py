"""A convolution whose gradients are fast on a CPU."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

NARROW = 32  # most features for which one channel's patches are transposed


def convolve(
    images: jax.Array,
    kernel: jax.Array,
    window_strides: Sequence[int],
    padding: Any,
    **options: Any,
) -> jax.Array:
    """``lax.conv_general_dilated`` for channels last, as Flax's layers call it.

    XLA's CPU backend runs the gradients of a convolution several times slower than the
    convolution itself. On a CPU this function therefore multiplies the matrix of the
    images' patches by the kernel, so that the gradients are matrix products too.

    The choice depends on the default backend, because a training runs on the machine
    that compiles it. ``lax.platform_dependent`` would choose at lowering, but its
    derivative keeps the residuals of both branches.
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
    """Convolve by one matrix product: images or volumes, channels last.

    It maps ``(B, H, W, C)`` and a kernel ``(kh, kw, C, F)`` to ``(B, h, w, F)``. The
    matrix of patches is ``(B h w, kh kw C)``. With one channel and few features it is
    ``(kh kw, B h w)``, which is filled by copies of whole rows.
    """
    *extent, channels, features = kernel.shape
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(images.shape[1:-1], extent, strides, padding)
    images = jnp.pad(images, [(0, 0), *padding, (0, 0)])
    size = [
        (n - k) // stride + 1
        for n, k, stride in zip(images.shape[1:-1], extent, strides, strict=True)
    ]
    # axis by axis: the pixels that each entry of the kernel multiplies
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

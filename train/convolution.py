"""A convolution whose gradients are fast on a CPU."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

NARROW = 32  # most features for which one channel's patches are transposed
# Numbers from which the gradient of patches is summed row by row, and the most rows, as
# XLA compiles each of them.
LARGE, ROWS = 2**16, 32


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

    The platform is known at lowering, so an exported program has its own platform's
    path. Forward-mode differentiation works only with the options that are left to XLA
    (groups, dilations).
    """
    by_xla = partial(
        lax.conv_general_dilated,
        window_strides=window_strides,
        padding=padding,
        **options,
    )
    if not is_plain(options):
        return by_xla(images, kernel)
    on_cpu = partial(
        by_patches,
        strides=window_strides,
        padding=padding,
        precision=options.get("precision"),
    )
    return by_platform(on_cpu, by_xla, images, kernel)


def is_plain(options: Mapping[str, Any]) -> bool:
    """Whether a convolution with the options has neither groups nor dilations."""
    return options.get("feature_group_count", 1) == 1 and all(
        n == 1
        for name in ("lhs_dilation", "rhs_dilation")
        for n in options.get(name) or ()
    )


Convolution = Callable[[jax.Array, jax.Array], jax.Array]


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def by_platform(
    on_cpu: Convolution, elsewhere: Convolution, images: jax.Array, kernel: jax.Array
) -> jax.Array:
    """Convolve by one function on a CPU, by the other on other platforms."""
    return lax.platform_dependent(images, kernel, cpu=on_cpu, default=elsewhere)


def _forward(
    on_cpu: Convolution, elsewhere: Convolution, images: jax.Array, kernel: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return by_platform(on_cpu, elsewhere, images, kernel), (images, kernel)


def _backward(
    on_cpu: Convolution, elsewhere: Convolution, inputs: tuple, cotangent: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Choose again: a differentiated choice would keep both branches' residuals.

    The patches are computed again; XLA merges them with those of the forward pass.
    """

    def pull_back(f: Convolution) -> Callable[..., tuple[jax.Array, jax.Array]]:
        return lambda cotangent, *inputs: jax.vjp(f, *inputs)[1](cotangent)

    return lax.platform_dependent(
        cotangent, *inputs, cpu=pull_back(on_cpu), default=pull_back(elsewhere)
    )


by_platform.defvjp(_forward, _backward)


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
        along = axis + 1 + one_channel
        joined = 0 if one_channel else patches.ndim - 1
        options = along, joined, extent[axis], size[axis], strides[axis]
        take: Any = slide_by_rows if is_by_rows(patches.shape, along) else slide
        patches = take(patches, *options)
    count = images.shape[0]  # an export may leave it open; len() needs an integer
    entries, pixels = kernel.size // features, count * math.prod(size)
    contracted = 0 if one_channel else 1
    products = lax.dot_general(
        patches.reshape((entries, pixels) if one_channel else (pixels, entries)),
        kernel.reshape(entries, features),
        (((contracted,), (0,)), ((), ())),
        precision=precision,
    )
    return products.reshape(count, *size, features)


def slide(
    pixels: jax.Array, along: int, joined: int, extent: int, size: int, stride: int
) -> jax.Array:
    """What each of ``extent`` entries of a kernel multiplies along an axis.

    An entry takes ``size`` pixels with a stride; those of all entries are concatenated
    along the axis ``joined``.
    """
    reach = stride * (size - 1) + 1
    parts = [
        lax.slice_in_dim(pixels, i, i + reach, stride, along) for i in range(extent)
    ]
    return jnp.concatenate(parts, axis=joined)


def is_by_rows(shape: Sequence[Any], along: int) -> bool:
    """Whether the gradient of :func:`slide` is to be summed row by row."""
    is_known = all(isinstance(n, int) for n in shape)  # an export may leave one open
    return is_known and math.prod(shape) >= LARGE and shape[along] <= ROWS


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4, 5))
def slide_by_rows(pixels: jax.Array, *options: int) -> jax.Array:
    """:func:`slide`, whose gradient reads each of its numbers once.

    Automatic differentiation pads the part of each entry to the size of the image, and
    adds the padded ones.
    """
    return slide(pixels, *options)


def _slide(pixels: jax.Array, *options: int) -> tuple[jax.Array, int]:
    return slide(pixels, *options), pixels.shape[options[0]]


def _sum_rows(
    along: int,
    joined: int,
    extent: int,
    size: int,
    stride: int,
    count: int,
    cotangent: jax.Array,
) -> tuple[jax.Array]:
    """The sum of the parts that were taken from each of ``count`` rows."""
    parts = jnp.split(cotangent, extent, joined)
    none = jnp.zeros_like(lax.slice_in_dim(parts[0], 0, 1, axis=along))
    rows = []
    for row in range(count):
        taken = [
            lax.slice_in_dim(part, at, at + 1, axis=along)
            for i, part in enumerate(parts)
            for at, rest in [divmod(row - i, stride)]
            if rest == 0 and 0 <= at < size
        ]
        rows.append(sum(taken[1:], start=taken[0]) if taken else none)
    # without the barrier XLA adds these up again for each part along the next axis
    return (lax.optimization_barrier(jnp.concatenate(rows, along)),)


slide_by_rows.defvjp(_slide, _sum_rows)

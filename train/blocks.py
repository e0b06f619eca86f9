"""A convolution of few channels that is fast on a CPU."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from .convolution import by_platform, is_plain

FEW = 8  # channels, and features, with which blocks are faster
LAYOUT = ("NHWC", "HWIO", "NHWC")


def convolve_few(
    images: jax.Array,
    kernel: jax.Array,
    window_strides: Sequence[int],
    padding: Any,
    **options: Any,
) -> jax.Array:
    """``lax.conv_general_dilated`` for channels last, as Flax's layers call it.

    XLA's CPU backend fills its vectors with channels. With at most 8 channels and
    features this function therefore convolves blocks of 2x2 pixels: a quarter of the
    pixels with four times the channels. It does so on a CPU, for images of even size, a
    square kernel of odd size, a stride of 1, and the padding "SAME".
    """
    side, _, channels, features = kernel.shape
    fits = (
        max(channels, features) <= FEW
        and side % 2 == 1
        and kernel.shape[1] == side
        and not any(n % 2 for n in images.shape[1:3])
        and tuple(window_strides) == (1, 1)
        and padding == "SAME"
        and is_plain(options)
        and options.get("precision") is None
    )
    if not fits:
        return lax.conv_general_dilated(
            images, kernel, window_strides, padding, **options
        )
    return by_platform(in_blocks, _convolve, images, kernel)


@jax.custom_vjp
def in_blocks(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolve images ``(B, H, W, C)`` with a kernel ``(k, k, C, F)``, in blocks."""
    return _from_blocks(_convolve(_to_blocks(images), _block_kernel(kernel)))


def _in_blocks_forward(
    images: jax.Array, kernel: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return in_blocks(images, kernel), (images, kernel)


def _in_blocks_backward(
    inputs: tuple[jax.Array, jax.Array], cotangent: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The images' gradient in blocks; the kernel's, which is faster without, by XLA."""
    images, kernel = inputs
    blocks = _block_kernel(kernel)
    shape = jax.eval_shape(_to_blocks, images)
    of_blocks = jax.linear_transpose(lambda x: _convolve(x, blocks), shape)
    (images_bar,) = of_blocks(_to_blocks(cotangent))
    (kernel_bar,) = jax.linear_transpose(lambda k: _convolve(images, k), kernel)(
        cotangent
    )
    return _from_blocks(images_bar), kernel_bar


in_blocks.defvjp(_in_blocks_forward, _in_blocks_backward)


def _convolve(images: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(
        images, kernel, (1, 1), "SAME", dimension_numbers=LAYOUT
    )


def _to_blocks(images: jax.Array) -> jax.Array:
    """``(B, H, W, C)`` to ``(B, H / 2, W / 2, 4 C)``."""
    count, height, width, channels = images.shape
    blocks = images.reshape(count, height // 2, 2, width // 2, 2, channels)
    blocks = blocks.transpose(0, 1, 3, 2, 4, 5)
    return blocks.reshape(count, height // 2, width // 2, 4 * channels)


def _from_blocks(blocks: jax.Array) -> jax.Array:
    """``(B, h, w, 4 C)`` to ``(B, 2 h, 2 w, C)``."""
    count, height, width, channels = blocks.shape
    images = blocks.reshape(count, height, width, 2, 2, channels // 4)
    images = images.transpose(0, 1, 3, 2, 4, 5)
    return images.reshape(count, 2 * height, 2 * width, channels // 4)


def _block_kernel(kernel: jax.Array) -> jax.Array:
    """The kernel that maps blocks to blocks, ``(n, n, 4 C, 4 F)``.

    Each pixel of a block has a copy of the kernel, which begins one entry later for the
    pixel that comes second.
    """
    side, _, channels, features = kernel.shape
    reach = side // 2
    around = (reach + 1) // 2  # blocks on either side
    extent = 2 * (2 * around + 1)  # pixels of all blocks

    def pad(at: int) -> tuple[int, int]:
        begin = 2 * around - reach + at
        return begin, extent - side - begin

    copies = jnp.stack(
        [
            jnp.pad(kernel, (pad(y), pad(x), (0, 0), (0, 0)))
            for y, x in itertools.product((0, 1), repeat=2)
        ]
    )
    blocks = extent // 2
    copies = copies.reshape(2, 2, blocks, 2, blocks, 2, channels, features)
    copies = copies.transpose(2, 4, 3, 5, 6, 0, 1, 7)
    return copies.reshape(blocks, blocks, 4 * channels, 4 * features)

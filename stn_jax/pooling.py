"""Pooling over adjacent windows, with a fast gradient of the maximum on CPUs."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax import lax


def average_pool(images: jax.Array, factor: int) -> jax.Array:
    """The mean of each window of ``factor`` pixels along each axis.

    Args:
      images: ``(B, *size, C)``.
      factor: the side of a window, and the distance of two. Windows that extend beyond
        the image are left out.

    Returns:
      ``(B, *size / factor, C)``.

    >>> average_pool(jnp.array([[1.0, 5.0], [7.0, 3.0]])[None, ..., None], 2).item()
    4.0
    """
    window = (1, *(factor,) * (images.ndim - 2), 1)
    sums = lax.reduce_window(images, 0.0, lax.add, window, window, "VALID")
    return sums / math.prod(window)


def max_pool(images: jax.Array, factor: int, *, ceil_mode: bool = False) -> jax.Array:
    """The maximum of each window of ``factor`` pixels along each axis.

    XLA's CPU backend computes the gradient of ``lax.reduce_window`` with a maximum, a
    "select and scatter", one window after another. It vectorizes the definition below.

    Args:
      images: ``(B, *size, C)``.
      factor: the side of a window, and the distance of two.
      ceil_mode: whether windows that extend beyond the image count too.

    Returns:
      ``(B, *size / factor, C)``. Equal maxima of a window share the gradient.

    >>> max_pool(jnp.array([[1.0, 5.0], [7.0, 3.0]])[None, ..., None], 2).item()
    7.0
    """
    size = images.shape[1:-1]
    if ceil_mode:
        beyond = [(0, -n % factor) for n in size]
        pads = [(0, 0), *beyond, (0, 0)]
        images = jnp.pad(images, pads, constant_values=-jnp.inf)
    else:
        images = images[:, *(slice(n // factor * factor) for n in size)]
    return _max_pool(images, factor)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _max_pool(images: jax.Array, factor: int) -> jax.Array:
    """The maxima of images that windows fill."""
    return functools.reduce(jnp.maximum, _members(images, factor))


def _members(images: jax.Array, factor: int) -> Iterator[jax.Array]:
    """The first pixel of every window, the second of every window, ..."""
    for place in itertools.product(range(factor), repeat=images.ndim - 2):
        yield images[:, *(slice(i, None, factor) for i in place)]


@_max_pool.defjvp
def _max_pool_jvp(
    factor: int, primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (images,), (images_dot,) = primals, tangents
    out = _max_pool(images, factor)
    batch, *size, channels = out.shape
    split = [part for n in size for part in (n, factor)]
    windows = batch, *split, channels
    within = tuple(range(2, 2 + len(split), 2))
    # not "equal": NaN is neither
    is_largest = ~(images.reshape(windows) < jnp.expand_dims(out, within))
    own = jnp.where(is_largest, images_dot.reshape(windows), 0)
    # a sum over the axes of the windows would not become vectors
    count = sum(jnp.where(x < out, 0, 1) for x in _members(images, factor))
    return out, own.sum(within) / count

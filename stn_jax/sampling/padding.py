"""Padding rules along one axis: which pixel the extended image shows at an index.

Padding extends the image over all integers, axis by axis, and the sampler interpolates
the extended image. A rule maps an index to the index of a pixel, and returns whether
there is one. Where there is none, the fill value stands.

To add a padding mode: write its rule and enter it in ``RULES``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

# The last pixel coordinate with a fraction in float32. Farther out every rule but
# "border" gives the fill value, so that an infinite coordinate never gets a pixel.
FAR = 2**23

Rule = Callable[[jax.Array, int, bool], tuple[jax.Array, jax.Array]]


def _constant(
    index: jax.Array, n: int, align_corners: bool
) -> tuple[jax.Array, jax.Array]:
    return jnp.clip(index, 0, n - 1), (index >= 0) & (index < n)


def _border(
    index: jax.Array, n: int, align_corners: bool
) -> tuple[jax.Array, jax.Array]:
    return jnp.clip(index, 0, n - 1), jnp.ones_like(index, bool)


def _reflection(
    index: jax.Array, n: int, align_corners: bool
) -> tuple[jax.Array, jax.Array]:
    """Mirror at the edges -1/2 and n - 1/2, with align_corners at 0 and n - 1."""
    n = min(n, 2**29)  # keeps the period within int32; farther pixels are never near
    if align_corners:
        period, last = max(2 * n - 2, 1), 2 * n - 2
    else:
        period, last = 2 * n, 2 * n - 1
    index, near = index % period, jnp.abs(index) <= FAR
    return jnp.minimum(index, last - index), near


def _wrap(index: jax.Array, n: int, align_corners: bool) -> tuple[jax.Array, jax.Array]:
    """Repeat with the period n, as SciPy's grid-wrap."""
    return index % n, jnp.abs(index) <= FAR


RULES: dict[str, Rule] = {
    "zeros": _constant,
    "constant": _constant,
    "border": _border,
    "reflection": _reflection,
    "wrap": _wrap,
}


def as_modes(padding_mode: str | Sequence[str], ndim: int) -> tuple[str, ...]:
    """The mode of each axis in image order, or an error that lists the modes."""
    modes = (padding_mode,) * ndim if isinstance(padding_mode, str) else padding_mode
    try:
        is_known = len(modes) == ndim and all(mode in RULES for mode in modes)
    except TypeError:
        is_known = False
    if not is_known:
        names = ", ".join(repr(mode) for mode in RULES)
        raise ValueError(
            f"padding_mode must be one of {names}, or {ndim} of them, for each axis in "
            f"image order; got {padding_mode!r}"
        )
    if {"zeros", "constant"} <= set(modes):
        raise ValueError(
            'padding_mode can hold "zeros" or "constant", not both: they fill with '
            f"different values; got {padding_mode!r}"
        )
    return tuple(modes)

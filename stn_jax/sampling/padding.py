"""The rules at the border: which pixel the endless image shows at an index.

Padding extends the image over all integers, axis by axis, and the sampler interpolates
the extended image. A rule maps an index to the pixel that stands there and says whether
one does: where it does not, the fill value stands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

# The last pixel coordinate with a fraction in float32. Farther out every rule but
# "border" sees the fill value, so that an infinite coordinate never reads a pixel.
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
    """Mirrors at the edges -1/2 and n - 1/2, or with align_corners at 0 and n - 1."""
    n = min(n, 2**29)  # keeps the period within int32; farther pixels are never near
    if align_corners:
        period, last = max(2 * n - 2, 1), 2 * n - 2
    else:
        period, last = 2 * n, 2 * n - 1
    index, near = index % period, jnp.abs(index) <= FAR
    return jnp.minimum(index, last - index), near


def _wrap(index: jax.Array, n: int, align_corners: bool) -> tuple[jax.Array, jax.Array]:
    """Repeats with the period n, as SciPy's grid-wrap."""
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
    one = isinstance(padding_mode, str)
    modes = (padding_mode,) * ndim if one else padding_mode
    try:
        known = len(modes) == ndim and all(mode in RULES for mode in modes)
    except TypeError:
        known = False
    if not known:
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

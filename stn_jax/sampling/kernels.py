"""Interpolation kernels along one axis: how much each pixel around a point counts.

A kernel of n taps weighs the n pixels nearest to x, as a function of where x lies among
them: of t = x - floor(x) where n is even, of t = x - floor(x + 1/2) where n is odd.
Since t jumps where the pixels change, every derivative on the lattice is the right-hand
one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp


@dataclass(frozen=True)
class Kernel:
    """Any kernel of finite support: the paper's k(x - m; Phi), eq. (3).

    The weights are used as they are, not normalized to sum 1. What ``weight`` closes
    over, Phi, may be traced, and learnt.

    Args:
      support: half the width of the kernel, in pixels, static: farther away than this
        from a point no pixel counts.
      weight: maps the signed distances x - m from pixels m, in pixels, an array of any
        shape, to weights of the same shape.

    Raises:
      ValueError: ``support`` is not positive and finite.

    >>> tent = Kernel(1.0, lambda d: 1 - jnp.abs(d))  # bilinear sampling
    >>> tent.weight(jnp.array([-0.25, 0.75]))
    Array([0.75, 0.25], dtype=float32)
    """

    support: float
    weight: Callable[[jax.Array], jax.Array]

    def __post_init__(self) -> None:
        if not 0 < self.support < math.inf:
            raise ValueError(f"support must be positive pixels; got {self.support!r}")


def taps(kernel: str | Kernel, x: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
    """The first of the pixels that count at x, and the weights from there on."""
    n, weights = _known(kernel) if isinstance(kernel, Kernel) else METHODS[kernel]
    base = jnp.floor(x if n % 2 == 0 else x + 0.5)
    return base.astype(jnp.int32) - (n - 1) // 2, weights(x - base)


def profile(kernel: str | Kernel, distance: jax.Array) -> jax.Array:
    """The kernel as a function of signed distances, not normalized to any sum."""
    if isinstance(kernel, Kernel):
        is_near = jnp.abs(distance) <= kernel.support
        return jnp.where(is_near, kernel.weight(distance), 0)
    n, weights = PROFILES[kernel]
    floor = jnp.floor(distance)
    tap = (n - 1) // 2 - floor
    pieces = weights(distance - floor)
    return jnp.select([tap == i for i in range(n)], pieces)


def _known(kernel: Kernel) -> tuple[int, Weights]:
    n = math.ceil(2 * kernel.support)

    def weights(t: jax.Array) -> list[jax.Array]:
        distances = [t + (n - 1) // 2 - tap for tap in range(n)]
        return [
            jnp.where(jnp.abs(d) <= kernel.support, kernel.weight(d), 0)
            for d in distances
        ]

    return n, weights


def _bilinear(t: jax.Array) -> list[jax.Array]:
    """Eq. (5): max(0, 1 - |x - m|)."""
    return [1 - t, t]


def _cubic(t: jax.Array, *, a: float) -> list[jax.Array]:
    """Cubic convolution (Keys, 1981) with the slope a at distance 1."""

    def near(d: jax.Array) -> jax.Array:
        return ((a + 2) * d - (a + 3)) * d * d + 1

    def far(d: jax.Array) -> jax.Array:
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

    return [far(1 + t), near(t), near(1 - t), far(2 - t)]


def _lanczos(t: jax.Array, *, a: int) -> list[jax.Array]:
    """sinc(d) sinc(d / a) for |d| < a.

    sin(pi d) is written as sin(pi t) with alternating signs, which is exactly zero
    where x is an integer.
    """
    weights = []
    for tap in range(2 * a):
        d = t + (a - 1 - tap)
        is_center = jnp.abs(d) < 1e-3
        safe = jnp.pi * jnp.where(is_center, 1, d)
        sign = (-1) ** (a - 1 - tap)
        weight = sign * jnp.sin(jnp.pi * t) / safe * (a * jnp.sin(safe / a) / safe)
        around_zero = 1 - (jnp.pi * d) ** 2 * (1 + 1 / a**2) / 6
        weights.append(jnp.where(is_center, around_zero, weight))
    return weights


def _normalized(t: jax.Array, *, weights: Weights) -> list[jax.Array]:
    """Weights divided by their sum."""
    parts = weights(t)
    total = sum(parts)
    return [part / total for part in parts]


def bspline(t: Any, *, degree: int) -> list[Any]:
    """The uniform B-splines that reach x, by de Boor's recursion."""
    s = t if degree % 2 else t + 0.5
    weights, none = [0 * s + 1], 0 * s  # arithmetic alone: NumPy's floats do as well
    for p in range(1, degree + 1):
        before, after = [none, *weights], [*weights, none]
        weights = [
            ((p - j + s) * before[j] + (j + 1 - s) * after[j]) / p for j in range(p + 1)
        ]
    return weights


Weights = Callable[[jax.Array], list[jax.Array]]

SPLINES = {f"bspline{degree}": degree for degree in (2, 3, 4, 5)}

# how many taps, and their weights: of the kernels that can be widened to antialias
PROFILES: dict[str, tuple[int, Weights]] = {
    "bilinear": (2, _bilinear),
    "bicubic": (4, partial(_cubic, a=-0.75)),
    "catmull_rom": (4, partial(_cubic, a=-0.5)),
    "lanczos3": (6, partial(_lanczos, a=3)),
}

# and of all
METHODS: dict[str, tuple[int, Weights]] = {
    "nearest": (1, lambda t: [jnp.ones_like(t)]),
    **PROFILES,
    "lanczos3": (6, partial(_normalized, weights=partial(_lanczos, a=3))),
    **{name: (p + 1, partial(bspline, degree=p)) for name, p in SPLINES.items()},
}

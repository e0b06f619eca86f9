"""Interpolation kernels along one axis: the weights of the pixels around a point.

A kernel weighs the n pixels nearest to x. The weights are functions of t, the place of
x among these pixels: t = x - floor(x) for even n, t = x - floor(x + 1/2) for odd n.
Since t jumps where the set of pixels changes, every derivative on the lattice of pixels
is the right-hand one.

To add a kernel: write its weights as a function of t and enter it in ``METHODS``; in
``PROFILES`` instead if ``antialias=True`` may widen it.
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
    """A custom kernel of finite support: the paper's k(x - m; Phi), eq. (3).

    The sampler uses the weights as they are, without normalizing their sum to 1.
    ``weight`` may close over traced parameters Phi, which can then be learnt.

    Args:
      support: half the width of the kernel, in pixels, static. Pixels farther from a
        point have weight 0.
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


def nearest_pixels(
    method: str | Kernel, x: jax.Array
) -> tuple[jax.Array, list[jax.Array]]:
    """The index of the first pixel that counts at x, and the weights from it on."""
    n, weights = _custom(method) if isinstance(method, Kernel) else METHODS[method]
    base = jnp.floor(x if n % 2 == 0 else x + 0.5)
    return base.astype(jnp.int32) - (n - 1) // 2, weights(x - base)


def profile(method: str | Kernel, distance: jax.Array) -> jax.Array:
    """The kernel as a function of signed distances in pixels, not normalized."""
    if isinstance(method, Kernel):
        is_near = jnp.abs(distance) <= method.support
        return jnp.where(is_near, method.weight(distance), 0)
    n, weights = PROFILES[method]
    floor = jnp.floor(distance)
    number = (n - 1) // 2 - floor
    pieces = weights(distance - floor)
    return jnp.select([number == i for i in range(n)], pieces)


def _custom(kernel: Kernel) -> tuple[int, Weights]:
    n = math.ceil(2 * kernel.support)

    def weights(t: jax.Array) -> list[jax.Array]:
        distances = [t + (n - 1) // 2 - i for i in range(n)]
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
    for i in range(2 * a):
        d = t + (a - 1 - i)
        is_center = jnp.abs(d) < 1e-3
        safe = jnp.pi * jnp.where(is_center, 1, d)
        sign = (-1) ** (a - 1 - i)
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
    """The values at x of the uniform B-splines around it, by de Boor's recursion."""
    s = t if degree % 2 else t + 0.5
    weights, none = [0 * s + 1], 0 * s  # arithmetic alone, to accept NumPy floats
    for p in range(1, degree + 1):
        before, after = [none, *weights], [*weights, none]
        weights = [
            ((p - j + s) * before[j] + (j + 1 - s) * after[j]) / p for j in range(p + 1)
        ]
    return weights


Weights = Callable[[jax.Array], list[jax.Array]]

SPLINES = {f"bspline{degree}": degree for degree in (2, 3, 4, 5)}

# Number of pixels and their weights, for the kernels that antialias=True may widen
PROFILES: dict[str, tuple[int, Weights]] = {
    "bilinear": (2, _bilinear),
    "bicubic": (4, partial(_cubic, a=-0.75)),
    "catmull_rom": (4, partial(_cubic, a=-0.5)),
    "lanczos3": (6, partial(_lanczos, a=3)),
}

# and for all kernels
METHODS: dict[str, tuple[int, Weights]] = {
    "nearest": (1, lambda t: [jnp.ones_like(t)]),
    **PROFILES,
    "lanczos3": (6, partial(_normalized, weights=partial(_lanczos, a=3))),
    **{name: (p + 1, partial(bspline, degree=p)) for name, p in SPLINES.items()},
}

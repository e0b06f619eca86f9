"""Rotations in two and three dimensions: from angles to matrices and back.

In two dimensions a rotation is an angle. In three it is a rotation vector, whose
direction is the axis and whose length is the angle. Both are in radians, zero for the
identity, and have finite derivatives there.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def rotation_matrix(rotation: jax.Array) -> jax.Array:
    """The matrix ``(n, n)`` of an angle ``(1,)`` or a rotation vector ``(3,)``."""
    if rotation.size == 1:
        (cos,), (sin,) = jnp.cos(rotation), jnp.sin(rotation)
        return jnp.stack([cos, -sin, sin, cos]).reshape(2, 2)
    squared = jnp.sum(rotation**2)
    is_small = squared < 1e-2
    angle = jnp.sqrt(jnp.where(is_small, 1, squared))
    sine = jnp.sin(angle) / angle
    cosine = 2 * jnp.sin(angle / 2) ** 2 / angle**2  # (1 - cos) / angle**2
    sine = jnp.where(is_small, _series(squared, 1, 6, 20, 42, 72), sine)
    cosine = jnp.where(is_small, _series(squared, 2, 12, 30, 56, 90), cosine)
    generator = cross_matrix(rotation)
    square = jnp.outer(rotation, rotation) - squared * jnp.eye(3, dtype=rotation.dtype)
    return jnp.eye(3, dtype=rotation.dtype) + sine * generator + cosine * square


def rotation_of(matrix: jax.Array) -> jax.Array:
    """The angle ``(1,)`` or rotation vector ``(3,)``, at most pi long, of a matrix."""
    if len(matrix) == 2:
        return jnp.arctan2(matrix[1, 0] - matrix[0, 1], jnp.trace(matrix))[None]
    w, *vector = _quaternion(matrix)
    vector = jnp.stack(vector)
    squared = jnp.sum(vector**2)
    is_small = squared < 1e-2
    length = jnp.sqrt(jnp.where(is_small, 1, squared))
    tangent = squared / jnp.where(is_small, w, 1) ** 2
    near = 2 / jnp.where(is_small, w, 1) * _arctan_series(tangent)
    far = 2 * jnp.arctan2(length, w) / length
    return vector * jnp.where(is_small, near, far)


def cross_matrix(v: jax.Array) -> jax.Array:
    """The matrix ``(3, 3)`` that takes p to the cross product of ``v`` and p."""
    x, y, z = v
    o = jnp.zeros_like(x)
    return jnp.stack([o, -z, y, z, o, -x, -y, x, o]).reshape(3, 3)


def _quaternion(matrix: jax.Array) -> jax.Array:
    """The unit quaternion (w, x, y, z), w >= 0, of a rotation matrix.

    The matrix 4 q q^T is linear in the rotation's; its longest row is a multiple of q
    and never near zero.
    """
    (a, b, c), (d, e, f), (g, h, i) = matrix
    rows = [
        [1 + a + e + i, h - f, c - g, d - b],
        [h - f, 1 + a - e - i, b + d, c + g],
        [c - g, b + d, 1 - a + e - i, f + h],
        [d - b, c + g, f + h, 1 - a - e + i],
    ]
    outer = jnp.stack([jnp.stack(row) for row in rows])
    row = outer[jnp.argmax(jnp.diagonal(outer))]
    q = row / jnp.sqrt(jnp.sum(row**2))
    return jnp.where(q[0] < 0, -q, q)


def _series(t: jax.Array, *divisors: int) -> jax.Array:
    """1 / a - t / (a b) + t**2 / (a b c) - ..., exact to rounding for small t."""
    first, *rest = divisors
    return (1 - t * _series(t, *rest)) / first if rest else jnp.ones_like(t) / first


def _arctan_series(t: jax.Array) -> jax.Array:
    """arctan(x) / x of t = x**2, exact to rounding for small t."""
    terms = [1 / (2 * k + 1) for k in range(8)]
    total = jnp.zeros_like(t)
    for term in reversed(terms):
        total = term - t * total
    return total

"""The transformation that fits one set of corresponding points best.

All solvers below ``fit`` take source ``(N, n)``, target ``(N, n)``, weights ``(N,)``
and the regularization, a number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._batching import lift
from .._checks import as_coordinates, as_points, check_regularization, promote
from ..grids.tps import control_lattice, spline_terms
from ..transforms.rotations import cross_matrix, rotation_matrix
from .least_squares import least_squares, pseudo_solve, rank


def fit(
    solver: Callable[..., jax.Array],
    source: ArrayLike,
    target: ArrayLike,
    weights: ArrayLike | None,
    regularization: ArrayLike,
    **static: Any,
) -> jax.Array:
    """Apply one of the solvers below over leading axes ``(*batch, N, n)``."""
    source, target = as_points(source, "source"), as_points(target, "target")
    if source.shape[-2:] != target.shape[-2:] or target.shape[-2] == 0:
        raise ValueError(
            "source and target must be equally many points, one or more, of equally "
            f"many coordinates; got shapes {source.shape} and {target.shape}"
        )
    if weights is None:
        weights = jnp.ones(target.shape[-2], target.dtype)
    weights = as_coordinates(weights, "weights")
    if weights.shape[-1:] != target.shape[-2:-1]:
        raise ValueError(
            f"weights must be (*batch, {target.shape[-2]}), one for each point; got "
            f"shape {weights.shape}"
        )
    check_regularization(regularization)
    dtype = promote(promote(source.dtype, target.dtype), weights.dtype)
    with jax.default_matmul_precision("highest"):
        return lift(
            solver,
            "(p,n),(p,n),(p),()->" + ("()" if solver in RANKS.values() else "(r,c)"),
            static=static,
            source=source.astype(dtype),
            target=target.astype(dtype),
            weights=weights.astype(dtype),
            regularization=jnp.asarray(regularization, dtype),
        )


class Frame(NamedTuple):
    """A unit of length and an origin in which points are well conditioned."""

    origin: jax.Array
    """``(n,)``."""
    unit: jax.Array
    is_point: jax.Array
    """Whether all points coincide, to rounding."""

    @classmethod
    def of(cls, points: jax.Array, weights: jax.Array) -> Frame:
        """The frame of the weighted mean and the root mean square distance from it."""
        origin = weights @ points
        squared = weights @ jnp.sum((points - origin[None]) ** 2, axis=-1)
        rounding = 10 * jnp.finfo(points.dtype).eps
        is_point = squared <= rounding**2 * (weights @ jnp.sum(points**2, axis=-1))
        return cls(origin, jnp.sqrt(jnp.where(is_point, 1, squared)), is_point)

    def enter(self, points: jax.Array) -> jax.Array:
        """Points ``(N, n)`` in this frame."""
        return jnp.where(self.is_point, 0, (points - self.origin[None]) / self.unit)


def framed(
    source: jax.Array, target: jax.Array, weights: jax.Array
) -> tuple[jax.Array, Frame, Frame]:
    """Weights of sum 1, and the frames of the two sets of points."""
    total = weights.sum()
    weights = weights / jnp.where(total == 0, 1, total)
    return weights, Frame.of(source, weights), Frame.of(target, weights)


def affine_matrix(
    source: jax.Array, target: jax.Array, weights: jax.Array, regularization: jax.Array
) -> jax.Array:
    """The affine theta ``(n, n + 1)``."""
    n = source.shape[1]
    matrix = _solved(_affine_terms, source, target, weights, regularization)
    return matrix[:n]


def projective_matrix(
    source: jax.Array, target: jax.Array, weights: jax.Array, regularization: jax.Array
) -> jax.Array:
    """The projective theta ``(n + 1, n + 1)``. Its last entry is 1 unless the origin is
    mapped to infinity.
    """
    matrix = _solved(_projective_terms, source, target, weights, regularization)
    last = matrix[-1, -1]
    return matrix / jnp.where(last == 0, 1, last)


def similarity_matrix(
    source: jax.Array, target: jax.Array, weights: jax.Array, regularization: jax.Array
) -> jax.Array:
    """The theta ``(n, n + 1)`` of the best rotation and, for it, the best scale."""
    n = source.shape[1]
    weights, source_frame, target_frame = framed(source, target, weights)
    s, t = source_frame.enter(source), target_frame.enter(target)
    ratio = target_frame.unit / source_frame.unit  # of translations, in these frames
    start = ratio * jnp.eye(n, dtype=s.dtype)
    products = (weights[:, None] * s).T @ t + regularization * start
    if n == 2:
        (a, b), (c, d) = products
        linear = jnp.stack([a + d, b - c, c - b, a + d]).reshape(2, 2)
    else:
        rotation = nearest_rotation(products)
        linear = jnp.sum(rotation * products) * rotation
    total = weights @ jnp.sum(t**2, axis=-1) + n * regularization
    linear = jnp.where(total == 0, start, linear / jnp.where(total == 0, 1, total))
    matrix = jnp.eye(n + 1, dtype=s.dtype).at[:n, :n].set(linear)
    return _leave(matrix, source_frame, target_frame)[:n]


def nearest_rotation(matrix: jax.Array) -> jax.Array:
    """The rotation R with the largest trace of ``R^T matrix``, ``(3, 3)``.

    The singular value decomposition finds it, but its derivatives divide by differences
    of singular values. Two steps of Newton's method from there carry the derivatives,
    exact to second order. Where the matrix leaves a rotation undetermined, the small
    multiple of the identity that is added at first selects none.
    """
    known = jax.lax.stop_gradient(matrix)
    grain = jnp.sqrt(jnp.finfo(matrix.dtype).eps) * jnp.abs(known).max()
    u, _, vt = jnp.linalg.svd(known + grain * jnp.eye(3, dtype=matrix.dtype))
    handed = jnp.sign(jnp.linalg.det(u @ vt))
    rotation = u @ (jnp.ones_like(vt).at[-1].set(handed) * vt)
    for _ in range(2):
        left = rotation.T @ matrix
        symmetric = (left + left.T) / 2
        trace = jnp.trace(symmetric) * jnp.eye(3, dtype=matrix.dtype)
        (_, ab, ac), (ba, _, bc), (ca, cb, _) = left
        turn = pseudo_solve(trace - symmetric, jnp.stack([cb - bc, ac - ca, ba - ab]))
        rotation = rotation @ rotation_matrix(turn)
    return rotation


def spline_values(
    source: jax.Array,
    target: jax.Array,
    weights: jax.Array,
    regularization: jax.Array,
    *,
    lattice: tuple[int, ...],
) -> jax.Array:
    """The values ``(K, n)`` at a lattice's points of the spline from target to source.

    With D the roots of the weights, the coefficients of the kernel are D z, and
    [[D U D + r, D P], [P^T D, 0]] [z, a] = [D displacements, 0] with the regularization
    r: symmetric, so that points of weight 0 and repeated ones only make it singular.
    """
    k = len(target)
    frame = Frame.of(target, jnp.full_like(weights, 1 / k))
    t, points = frame.enter(target), control_lattice(lattice, dtype=target.dtype)
    root = jnp.where(weights > 0, jnp.sqrt(jnp.where(weights > 0, weights, 1)), 0)
    above = root[:, None] * spline_terms(jnp, t, t)
    radial = above[:, :k] * root[None, :]
    radial = radial + regularization / frame.unit**2 * jnp.eye(k, dtype=t.dtype)
    affine = above[:, k:]
    corner = jnp.zeros_like(affine, shape=(affine.shape[1],) * 2)
    system = jnp.block([[radial, affine], [affine.T, corner]])
    values = jnp.zeros_like(system[:, : source.shape[1]])
    values = values.at[:k].set(root[:, None] * (source - target))
    solution = pseudo_solve(system, values)
    solution = solution + pseudo_solve(system, values - system @ solution)
    solution = solution.at[:k].multiply(root[:, None])
    return points + spline_terms(jnp, frame.enter(points), t) @ solution


def _solved(
    make_terms: Terms,
    source: jax.Array,
    target: jax.Array,
    weights: jax.Array,
    regularization: jax.Array,
) -> jax.Array:
    """A homogeneous matrix whose entries except the last solve linear equations."""
    n = source.shape[1]
    weights, source_frame, target_frame = framed(source, target, weights)
    s, t = source_frame.enter(source), target_frame.enter(target)
    ratio = target_frame.unit / source_frame.unit  # of translations, in these frames
    start = jnp.eye(n + 1, dtype=s.dtype).at[:n, :n].multiply(ratio).reshape(-1)
    equations = make_terms(s, t)
    count = equations.shape[1]
    values = s.reshape(-1) - equations @ start[:count]
    change = least_squares(equations, values, jnp.repeat(weights, n), regularization)
    matrix = start.at[:count].add(change).reshape(n + 1, n + 1)
    return _leave(matrix, source_frame, target_frame)


def _leave(matrix: jax.Array, source: Frame, target: Frame) -> jax.Array:
    """Convert a matrix between two frames to the coordinates of the points."""
    n = len(matrix) - 1
    one = jnp.eye(n + 1, dtype=matrix.dtype)
    into = (
        one.at[:n, :n].divide(target.unit).at[:n, n].set(-target.origin / target.unit)
    )
    out = one.at[:n, :n].multiply(source.unit).at[:n, n].set(source.origin)
    return out @ matrix @ into


# The coefficients of the K parameters in the equations: (N * n, K), one row for each
# coordinate of a point

Terms = Callable[[jax.Array, jax.Array], jax.Array]


def _affine_terms(s: jax.Array, t: jax.Array) -> jax.Array:
    n = s.shape[1]
    homogeneous = jnp.concatenate([t, jnp.ones_like(t[:, :1])], axis=1)
    blocks = jnp.einsum("ab,nk->nabk", jnp.eye(n, dtype=t.dtype), homogeneous)
    return blocks.reshape(-1, n * (n + 1))


def _projective_terms(s: jax.Array, t: jax.Array) -> jax.Array:
    """The last entry of theta, the constant in w, is 1: u - w x_s = x_s."""
    below = -(s[:, :, None] * t[:, None, :]).reshape(-1, s.shape[1])
    return jnp.concatenate([_affine_terms(s, t), below], axis=1)


def _similarity_terms(s: jax.Array, t: jax.Array) -> jax.Array:
    """Scale, rotations and translations, to first order around the identity."""
    n = s.shape[1]
    if n == 2:
        rotated = jnp.stack([-t[:, 1], t[:, 0]], axis=1)[:, :, None]
    else:
        rotated = -jax.vmap(cross_matrix)(t)
    unit = jnp.broadcast_to(jnp.eye(n, dtype=t.dtype), (len(t), n, n))
    blocks = jnp.concatenate([t[:, :, None], rotated, unit], axis=2)
    return blocks.reshape(-1, blocks.shape[2])


def _rank(make_terms: Terms) -> Callable[..., jax.Array]:
    def one(
        source: jax.Array,
        target: jax.Array,
        weights: jax.Array,
        regularization: jax.Array,
    ) -> jax.Array:
        weights, source_frame, target_frame = framed(source, target, weights)
        equations = make_terms(source_frame.enter(source), target_frame.enter(target))
        return rank(equations, jnp.repeat(weights, source.shape[1]))

    return one


RANKS = {
    "similarity": _rank(_similarity_terms),
    "affine": _rank(_affine_terms),
    "projective": _rank(_projective_terms),
}

"""The inverse of a transformation at points, for families that have no formula."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from ._batching import lift
from ._checks import (
    as_count,
    as_params,
    as_points,
    as_positive,
    as_transform,
    promote,
)
from ._types import Params
from .transforms import Transform

Points = Callable[[jax.Array], jax.Array]  # points (N, n) to points (N, n)


def invert_points(
    transform: Transform,
    params: Params,
    points: ArrayLike,
    *,
    tolerance: float = 1e-5,
    max_iterations: int = 50,
) -> tuple[jax.Array, jax.Array]:
    """The points that a transformation maps to the given ones.

    ``apply`` maps points of the output to the input, so a key point of the input lands
    in the output at its inverse. Families of matrices have a formula for it, splines,
    fields and chains do not. We find it by Newton's method, which starts at the given
    point and halves a step until it reduces the error. Unlike a fixed-point iteration,
    it also converges where displacements are large; affine maps take one step.

    The derivatives follow from the implicit function theorem. They are exact in forward
    and in reverse mode and of any order, and do not pass through the iteration.

    Args:
      transform: a family with ``apply``, such as all of :mod:`stn_jax.transforms`.
      params: ``(*batch, P)``.
      points: of the input, ``(*batch, N, 2)`` or ``(*batch, N, 3)``, normalized.
      tolerance: the largest error, ``apply(params, found) - points``, of a coordinate,
        normalized. The default is for float32. Points within it take one more step.
      max_iterations: the number of steps after which a point is given up.

    Returns:
      The points of the output, ``(*batch, N, n)``, normalized, and booleans ``(*batch,
      N)`` that mark those that were found. The others hold the best point of the
      iteration (the given one, if that is not finite), have no gradient, and do not
      affect those that were found. Where a transformation folds, a point has several
      inverses, and this is one of them.

    Raises:
      TypeError, ValueError: a ``transform`` without ``apply``; shapes that do not fit
        each other; a ``tolerance`` or ``max_iterations`` that is not positive.

    >>> from stn_jax.transforms import ThinPlateSpline
    >>> spline = ThinPlateSpline((3, 3))
    >>> params = spline.identity.at[8].set(0.3)  # x of the center's control point
    >>> key_points = jnp.array([[0.3, 0.0], [-1.0, 1.0]])  # of the input
    >>> found, is_found = invert_points(spline, params, key_points)
    >>> bool(jnp.allclose(found, jnp.array([[0, 0], [-1, 1]]), atol=1e-5))
    True
    >>> is_found
    Array([ True,  True], dtype=bool)
    """
    transform = as_transform(transform)
    if not hasattr(transform, "apply"):
        raise TypeError(f"transform must have apply(params, points); got {transform!r}")
    params = as_params(params, transform)
    points = as_points(points, "points", (getattr(transform, "ndim", 2),))
    dtype = promote(params.dtype, points.dtype)
    found, is_found = lift(
        _inverted,
        "(k),(p,n)->(p,n),(p)",
        static={
            "transform": transform,
            "tolerance": as_positive(tolerance, "tolerance"),
            "max_iterations": as_count(max_iterations, "max_iterations"),
        },
        compiled=_is_constant(transform),
        params=params.astype(dtype),
        points=points.astype(dtype),
    )
    return found, is_found


def _is_constant(transform: Any) -> bool:
    """Whether equal transforms stay equal, so that a program made for one is kept."""
    try:
        hash(transform)
    except TypeError:  # it holds an array
        return False
    return type(transform).__hash__ is not object.__hash__


def _inverted(
    params: jax.Array,
    points: jax.Array,
    transform: Any,
    tolerance: float,
    max_iterations: int,
) -> tuple[jax.Array, jax.Array]:
    """One transformation's inverse at points ``(N, n)``."""
    nearest, is_found = _newton(
        partial(transform.apply, lax.stop_gradient(params)),
        lax.stop_gradient(points),
        tolerance,
        max_iterations,
    )
    mask = jnp.broadcast_to(is_found[:, None], points.shape)
    target = jnp.where(mask, points, 0)

    def gap(at: jax.Array) -> jax.Array:
        """Zero at the solution. Other points have the identity instead, whose
        derivatives are finite and do not depend on the parameters.
        """
        return jnp.where(mask, transform.apply(params, at) - target, at)

    solution = jnp.where(mask, nearest, 0)
    root = lax.custom_root(gap, solution, lambda _, solution: solution, _solve)
    return jnp.where(mask, root, nearest), is_found


def _newton(
    function: Points, target: jax.Array, tolerance: float, max_iterations: int
) -> tuple[jax.Array, jax.Array]:
    """The points that ``function`` maps to ``target``, and whether they were found."""

    def is_open(state: tuple[jax.Array, ...]) -> jax.Array:
        _, _, error, _, _, is_settled = state
        return ~is_settled & ~jnp.isnan(error)

    def is_unfinished(state: tuple[jax.Array, ...]) -> jax.Array:
        return (state[0] <= max_iterations) & is_open(state).any()

    def improve(state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        count, at, error, step, factor, is_settled = state
        trial = at - factor * step
        gap, linear = jax.linearize(lambda at: function(at) - target, trial)
        trial_error = jnp.abs(gap).max(axis=-1, keepdims=True)
        is_better = (trial_error < error) & is_open(state)  # False if NaN
        return (
            count + 1,
            jnp.where(is_better, trial, at),
            jnp.where(is_better, trial_error, error),
            jnp.where(is_better, _solve(linear, gap), step),
            jnp.where(is_better, 1, factor / 2),
            is_settled | (error <= tolerance),  # after one more step
        )

    unknown = jnp.where(jnp.isfinite(target).all(-1, keepdims=True), jnp.inf, jnp.nan)
    start = (
        jnp.array(0),
        target,
        unknown.astype(target.dtype),
        jnp.zeros_like(target),
        jnp.ones_like(target[:, :1]),
        jnp.zeros(target[:, :1].shape, bool),
    )
    _, at, error, step, _, _ = lax.while_loop(is_unfinished, improve, start)
    is_found = (error <= tolerance) & jnp.isfinite(step).all(axis=-1, keepdims=True)
    return at, is_found[:, 0]


def _solve(linear: Points, values: jax.Array) -> jax.Array:
    """Solve ``linear(x) = values``, whose rows, ``(N, n)``, are systems of their own.

    The systems are small, so we use Cramer's rule. A singular one gives NaN or infinite
    numbers in its row.
    """
    n = values.shape[-1]
    units = jnp.broadcast_to(
        jnp.eye(n, dtype=values.dtype)[:, None], (n, *values.shape)
    )
    columns = [*jax.vmap(linear)(units)]
    unknowns = [
        _determinant([*columns[:i], values, *columns[i + 1 :]]) for i in range(n)
    ]
    return jnp.stack(unknowns, axis=-1) / _determinant(columns)[:, None]


def _determinant(columns: list[jax.Array]) -> jax.Array:
    """The determinants ``(N,)`` of matrices with two or three columns ``(N, n)``."""
    if len(columns) == 2:
        (a, c), (b, d) = (column.T for column in columns)
        return a * d - b * c
    x, y, z = columns
    return (jnp.cross(x, y) * z).sum(axis=-1)

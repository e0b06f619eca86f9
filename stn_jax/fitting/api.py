"""Transformations from correspondences: the least squares of points.

``source`` are points of the input and ``target`` the same points in the output; what is
fitted maps target to source, as sampling grids want it. Every fit runs with both sets
of points shifted to their weighted means and scaled to one unit of spread.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
from jax.typing import ArrayLike

from .._checks import as_points, as_size, check_choice
from .solvers import (
    RANKS,
    affine_matrix,
    fit,
    projective_matrix,
    similarity_matrix,
    spline_values,
)


def fit_affine(
    source: ArrayLike,
    target: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    regularization: ArrayLike = 0.0,
) -> jax.Array:
    """The affine transformation that takes target points to source points best.

    The least ``sum_i w_i |theta (t_i, 1) - s_i|**2``. Where the points leave something
    open (fewer than three, or all on a line) the result is, of the best, the one
    nearest to a translation, and gradients are finite: ``fit_rank`` tells.

    Args:
      source: ``(*batch, N, 2)`` or ``(*batch, N, 3)``: points of the input, in
        normalized coordinates, or in any others that are the same for both.
      target: of the same shape: where these points are in the output.
      weights: ``(*batch, N)``, not negative; all 1 when None.
      regularization: pulls to the translation between the weighted means: ``r |A -
        I|**2`` is added, relative to the mean square of the residuals, both in units of
        the target's spread.

    Returns:
      theta ``(*batch, 2, 3)`` or ``(*batch, 3, 4)``, for :func:`~stn_jax.affine_grid`;
      differentiable; float32 or better.

    Raises:
      TypeError, ValueError: shapes that do not fit, a negative ``regularization``.

    >>> import jax.numpy as jnp
    >>> target = jnp.array([[-1.0, -1.0], [1.0, -1.0], [0.0, 1.0]])
    >>> theta = jnp.array([[0.5, 0.0, 0.25], [0.0, 0.5, 0.25]])
    >>> bool(jnp.allclose(fit_affine(0.5 * target + 0.25, target), theta, atol=1e-6))
    True
    """
    return fit(affine_matrix, source, target, weights, regularization)


def fit_similarity(
    source: ArrayLike,
    target: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    regularization: ArrayLike = 0.0,
) -> jax.Array:
    """The scale, rotation and translation that take target to source points best.

    The least ``sum_i w_i |s R t_i + b - s_i|**2`` (Umeyama, 1991), without reflections.
    Where all points are one, the result is a translation, and where in three dimensions
    they lie on a line, nothing turns around it: ``fit_rank`` tells. In normalized
    coordinates of an image that is not square, a similarity shears the pixels: fit in
    pixels then, and convert by :func:`~stn_jax.from_pixel`.

    Args:
      source: ``(*batch, N, 2)`` or ``(*batch, N, 3)``: points of the input, in
        normalized coordinates, or in any others that are the same for both.
      target: of the same shape: where these points are in the output.
      weights: ``(*batch, N)``, not negative; all 1 when None.
      regularization: pulls to the translation between the weighted means, as in
        :func:`fit_affine`.

    Returns:
      theta ``(*batch, 2, 3)`` or ``(*batch, 3, 4)``, for :func:`~stn_jax.affine_grid`;
      differentiable; float32 or better.

    Raises:
      TypeError, ValueError: shapes that do not fit, a negative ``regularization``.

    >>> import jax.numpy as jnp
    >>> target = jnp.array([[0.0, 0.0], [1.0, 0.0]])
    >>> source = jnp.array([[0.5, 0.0], [0.5, 2.0]])  # turned, and twice as far
    >>> theta = jnp.array([[0.0, -2.0, 0.5], [2.0, 0.0, 0.0]])
    >>> bool(jnp.allclose(fit_similarity(source, target), theta, atol=1e-6))
    True
    """
    return fit(similarity_matrix, source, target, weights, regularization)


def fit_projective(
    source: ArrayLike,
    target: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    regularization: ArrayLike = 0.0,
) -> jax.Array:
    """The homography that takes target points to source points, exactly or nearly so.

    The direct linear transformation in Hartley's (1997) normalized coordinates: of
    correspondences with noise it minimizes the algebraic error ``sum_i w_i |(u_i, v_i)
    - w_i s_i|**2``. The points must be in front of the camera in both pictures. Where
    they leave something open (fewer than four, or all but one on a line) the result is,
    of the best, the one nearest to a translation: ``fit_rank`` tells.

    Args:
      source: ``(*batch, N, 2)`` or ``(*batch, N, 3)``: points of the input, in
        normalized coordinates, or in any others that are the same for both.
      target: of the same shape: where these points are in the output.
      weights: ``(*batch, N)``, not negative; all 1 when None.
      regularization: pulls to the translation between the weighted means, as in
        :func:`fit_affine`.

    Returns:
      theta ``(*batch, 3, 3)`` or ``(*batch, 4, 4)``, its last entry 1, for
      :func:`~stn_jax.projective_grid`; differentiable; float32 or better.

    Raises:
      TypeError, ValueError: shapes that do not fit, a negative ``regularization``.

    >>> import jax.numpy as jnp
    >>> target = jnp.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    >>> source = jnp.array([[-1.0, -1.0], [1.0, -1.0], [0.5, 0.5], [-0.5, 0.5]])
    >>> fit_projective(source, target)[2, 1].round(3)  # the upper edge is nearer
    Array(0.333, dtype=float32)
    """
    return fit(projective_matrix, source, target, weights, regularization)


def fit_tps(
    source: ArrayLike,
    target: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    regularization: ArrayLike = 0.0,
    lattice: Sequence[int] | None = None,
) -> jax.Array:
    """Where the thin plate spline from target to source points takes a lattice.

    The spline of :func:`~stn_jax.tps_grid` with these target and control points, read
    at the points of a control lattice: parameters of
    :class:`~stn_jax.transforms.ThinPlateSpline`, of one number however many points
    there are. The lattice's own spline is the same where that is affine, and else an
    approximation, the better the finer the lattice. Repeated points are averaged; where
    the points determine no affine part, as in :func:`fit_affine`, the spline is that of
    the least coefficients.

    Args:
      source: ``(*batch, N, 2)`` or ``(*batch, N, 3)``: points of the input, normalized.
      target: of the same shape: where these points are in the output, normalized.
      weights: ``(*batch, N)``, not negative; all 1 when None. A point's ridge is
        ``regularization / weight``, so that without a ridge only the weight 0 matters:
        such points are left out.
      regularization: the ridge on the kernel's diagonal (SciPy's ``smoothing``): 0
        interpolates the points, more of it tends to their best affine map.
      lattice: ``(rows, columns)`` or ``(layers, rows, columns)``, static; 4 along each
        axis when None.

    Returns:
      Control points ``(*batch, K, 2)`` or ``(*batch, K, 3)`` in lattice order,
      normalized; differentiable; float32 or better.

    Raises:
      TypeError, ValueError: shapes that do not fit, a negative ``regularization``.

    >>> import jax.numpy as jnp
    >>> target = jnp.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
    >>> fit_tps(0.5 * target, target, lattice=(2, 2)).round(2)
    Array([[-0.5, -0.5],
           [ 0.5, -0.5],
           [-0.5,  0.5],
           [ 0.5,  0.5]], dtype=float32)
    """
    ndim = as_points(target, "target").shape[-1]
    due = f"lattice must be {ndim} positive integers"
    lattice = as_size((4,) * ndim if lattice is None else lattice, due, (ndim,))
    return fit(spline_values, source, target, weights, regularization, lattice=lattice)


def fit_rank(
    source: ArrayLike,
    target: ArrayLike,
    *,
    family: str,
    weights: ArrayLike | None = None,
) -> jax.Array:
    """How many of a family's parameters the points determine: fewer than all of them
    where a fit had to choose.

    Args:
      source: ``(*batch, N, 2)`` or ``(*batch, N, 3)``: points of the input, in
        normalized coordinates, or in any others that are the same for both.
      target: of the same shape: where these points are in the output.
      family: "similarity", of 4 parameters (7 in three dimensions), "affine", of 6
        (12), or "projective", of 8 (15). For :func:`fit_tps` ask for "affine".
      weights: ``(*batch, N)``, not negative; all 1 when None.

    Returns:
      Integers ``(*batch)``.

    Raises:
      TypeError, ValueError: shapes that do not fit, an unknown ``family``.

    >>> import jax.numpy as jnp
    >>> line = jnp.array([[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    >>> fit_rank(line, line, family="affine"), fit_rank(line, line, family="similarity")
    (Array(4, dtype=int32), Array(4, dtype=int32))
    """
    check_choice("family", family, RANKS)
    return fit(RANKS[family], source, target, weights, 0.0)

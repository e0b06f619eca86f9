"""The public fits: transformations from corresponding points, by least squares.

``source`` are points of the input and ``target`` the same points in the output. The
fitted transformation maps target to source, as sampling grids need it. Every fit shifts
both sets of points to their weighted means and scales them to one unit of spread.
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
    r"""Fit an affine transformation that maps target points to source points.

    It minimizes

    .. math:: \sum_i w_i \, |\theta \, (t_i, 1)^T - s_i|^2

    Points that do not determine it (fewer than three, or all on a line) give the
    minimizer nearest to a translation, with finite gradients; ``fit_rank`` detects
    this.

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
    r"""Fit a scale, a rotation and a translation that map target to source points.

    The scale c, the rotation R and the translation b minimize (Umeyama, 1991)

    .. math:: \sum_i w_i \, |c R t_i + b - s_i|^2

    without reflections. If all points coincide, the result is a translation. If in
    three dimensions they lie on a line, the result does not rotate around it.
    ``fit_rank`` detects both. In normalized coordinates of an image that is not square,
    a similarity shears the pixels: fit in pixels then, and convert with
    :func:`~stn_jax.from_pixel`.

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
    >>> source = jnp.array([[0.5, 0.0], [0.5, 2.0]])  # rotated, and twice as far
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
    r"""Fit a homography that maps target points to source points.

    The direct linear transformation in Hartley's (1997) normalized coordinates. With
    noise and weights :math:`\omega_i` it minimizes the algebraic error

    .. math:: \sum_i \omega_i \, |(u_i, v_i) - w_i s_i|^2, \quad
        (u_i, v_i, w_i)^T = \theta \, (t_i, 1)^T

    The points must be in front of the camera in both pictures. Points that do not
    determine it (fewer than four, or all but one on a line) give the minimizer nearest
    to a translation; ``fit_rank`` detects this.

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
    """Fit a thin plate spline that maps target to source points, and evaluate it at a
    control lattice.

    The spline is that of :func:`~stn_jax.tps_grid` with these target and control
    points. Its values at the lattice are parameters of
    :class:`~stn_jax.transforms.ThinPlateSpline`, equally many for any number of points.
    The spline through these values equals the fitted one where that is affine, and
    approximates it elsewhere, the better the finer the lattice. Repeated points are
    averaged. Points that determine no affine part, as in :func:`fit_affine`, give the
    spline of the smallest coefficients.

    Args:
      source: ``(*batch, N, 2)`` or ``(*batch, N, 3)``: points of the input, normalized.
      target: of the same shape: where these points are in the output, normalized.
      weights: ``(*batch, N)``, not negative; all 1 when None. A point's ridge is
        ``regularization / weight``. Without a ridge all positive weights are equal;
        points of weight 0 are always left out.
      regularization: the ridge on the kernel's diagonal (SciPy's ``smoothing``): 0
        interpolates the points; larger values approach their best affine map.
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
    expected = f"lattice must be {ndim} positive integers"
    lattice = as_size((4,) * ndim if lattice is None else lattice, expected, (ndim,))
    return fit(spline_values, source, target, weights, regularization, lattice=lattice)


def fit_rank(
    source: ArrayLike,
    target: ArrayLike,
    *,
    family: str,
    weights: ArrayLike | None = None,
) -> jax.Array:
    """Count the parameters of a family that corresponding points determine.

    If it is fewer than all of them, the fit had to choose.

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

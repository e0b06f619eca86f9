"""Thin plate spline sampling grids (Bookstein, 1989), the paper's most flexible T."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike, DTypeLike

from .checks import as_coordinates, as_size
from .coordinates import axis_of_centers
from .lifting import lift


def control_lattice(
    shape: Sequence[int], *, dtype: DTypeLike | None = None
) -> jax.Array:
    """The regular lattice of control points: a thin plate spline's identity.

    Args:
      shape: ``(rows, columns)``, static.
      dtype: of the result; JAX's default float when None.

    Returns:
      ``(K, 2)`` with ``K = rows * columns``, last axis ``(x, y)``, row-major (x moves
      fastest), spanning [-1, 1] inclusive, normalized. A single row or column is at 0.

    Raises:
      TypeError, ValueError: ``shape`` is not two positive integers.

    >>> control_lattice((2, 2))
    Array([[-1., -1.],
           [ 1., -1.],
           [-1.,  1.],
           [ 1.,  1.]], dtype=float32)
    """
    shape = as_size(shape, "shape must be (rows, columns), positive integers", (2,))
    return jnp.asarray(lattice_points(shape), float if dtype is None else dtype)


def lattice_points(shape: tuple[int, ...], *, align_corners: bool = True) -> np.ndarray:
    """The regular points of ``(rows, columns)``, row-major, (x, y), in float64."""
    y, x = (axis_of_centers(n, align_corners) for n in shape)
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)


def tps_grid(
    control_points: ArrayLike,
    size: Sequence[int],
    *,
    target_points: ArrayLike | None = None,
    regularization: ArrayLike = 0.0,
    align_corners: bool = False,
) -> jax.Array:
    """Where a thin plate spline reads each output pixel in the input.

    The spline ``f(p) = a_0 + A p + sum_k w_k U(|p - t_k|)``, ``U(r) = r**2 log r``,
    which takes each target point ``t_k`` of the output to its control point in the
    input and bends least in between (Bookstein, 1989). It is linear in the control
    points: for target points known when tracing, the system is solved once, in float64,
    and the program only multiplies by the solution.

    Args:
      control_points: ``(*batch, K, 2)``, last axis ``(x, y)``, normalized: where in the
        input the target points are read. The identity is the target points themselves.
      size: of the output, ``(height, width)``, static.
      target_points: ``(*batch, K, 2)``, normalized: where in the output they are; by
        default ``control_lattice((n, n))`` with ``n * n == K``.
      regularization: the ridge on the kernel's diagonal (SciPy's ``smoothing``): 0
        interpolates the control points, more of it tends to their best affine map.
      align_corners: what -1 and 1 are: the centers of the outermost pixels (True) or
        the edges of the image (False). It moves the pixels, not the points.

    Returns:
      ``(*batch, height, width, 2)``, last axis ``(x, y)``, normalized; float32 or
      better.

    Raises:
      TypeError, ValueError: shapes that do not fit, a ``size`` that is not two positive
        integers, no ``target_points`` where K is not a square, or target points that
        are collinear or repeat (when traced, these give NaN or meaningless numbers).

    >>> from stn_jax import identity_grid
    >>> lattice = control_lattice((4, 4))
    >>> grid = tps_grid(lattice * 0.5, (28, 28))  # zooms in by 2
    >>> bool(jnp.allclose(grid, identity_grid((28, 28)) * 0.5, atol=1e-5))
    True
    """
    control_points = _as_points(control_points, "control_points")
    size = as_size(size, "size must be (height, width), positive integers", (2,))
    targets = _as_targets(target_points, control_points)
    known = not any(isinstance(x, Tracer) for x in (targets, regularization))
    if not isinstance(regularization, Tracer) and not np.asarray(regularization) >= 0:
        raise ValueError(f"regularization must be 0 or more; got {regularization}")
    xp = np if known else jnp
    with jax.default_matmul_precision("highest"):
        basis = _basis(xp, targets, regularization, size, align_corners)
        basis = jnp.asarray(basis, control_points.dtype)
        grid = lift(
            jnp.matmul,
            "(p,k),(k,n)->(p,n)",
            target_points=basis,
            control_points=control_points,
        )
    return grid.reshape(*grid.shape[:-2], *size, 2)


def _basis(
    xp: Any, targets: Any, regularization: Any, size: tuple[int, ...], corners: bool
) -> Any:
    """What each control point adds to each output pixel: (*batch, h * w, K).

    ``xp`` is NumPy, which computes in float64, where everything is known when tracing.
    """
    pixels = lattice_points(size, align_corners=corners)
    terms = _terms(xp, xp.asarray(pixels, targets.dtype), targets)
    return terms @ _coefficients(xp, targets, regularization)


def _coefficients(xp: Any, targets: Any, regularization: Any) -> Any:
    """The coefficients of all terms for each control point, (*batch, K + 3, K).

    They solve [[U + ridge, P], [P.T, 0]] [w, a] = [control points, 0], where P holds
    the affine terms of the target points.
    """
    k = targets.shape[-2]
    above = _terms(xp, targets, targets)
    below = xp.swapaxes(above[..., k:], -1, -2)
    below = xp.concatenate([below, xp.zeros((*below.shape[:-1], 3), below.dtype)], -1)
    ridge = xp.asarray(regularization, above.dtype)
    above = above + ridge * xp.eye(k, k + 3, dtype=above.dtype)
    system = xp.concatenate([above, below], axis=-2)
    if xp is np and system.size and np.any(np.linalg.cond(system) > 1e12):
        raise ValueError(
            "target_points must not repeat or all lie on a line: no spline is "
            f"determined by\n{targets}"
        )
    unit = xp.broadcast_to(xp.eye(k + 3, k, dtype=system.dtype), system[..., :k].shape)
    return xp.linalg.solve(system, unit)


def _terms(xp: Any, points: Any, targets: Any) -> Any:
    """The spline's terms U(|p - t_k|), 1, x, y at each point: (*batch, P, K + 3)."""
    difference = points[..., :, None, :] - targets[..., None, :, :]
    radial = _thin_plate(xp, (difference**2).sum(-1))
    points = xp.broadcast_to(points, (*radial.shape[:-1], 2))
    return xp.concatenate([radial, xp.ones_like(points[..., :1]), points], axis=-1)


def _thin_plate(xp: Any, squared: Any) -> Any:
    """U(r) = r**2 log r, from r**2; 0 at r = 0.

    The inner where keeps log(0) out of the derivatives, which would turn NaN.
    """
    is_zero = squared == 0
    return xp.where(is_zero, 0, squared * xp.log(xp.where(is_zero, 1, squared)) / 2)


def _as_targets(target_points: Any, control_points: jax.Array) -> Any:
    """The target points: traced ones as they are, known ones in NumPy's float64."""
    k = control_points.shape[-2]
    if target_points is None:
        side = math.isqrt(k)
        if side**2 != k:
            raise ValueError(
                "without target_points there must be n * n control points, a square "
                f"lattice; got {k}"
            )
        return lattice_points((side, side))
    checked = _as_points(target_points, "target_points")
    if checked.shape[-2] != k:
        raise ValueError(
            f"target_points must be as many as control_points, {k}; got shape "
            f"{checked.shape}"
        )
    if isinstance(target_points, Tracer):
        return checked
    return np.asarray(target_points, np.float64)


def _as_points(points: ArrayLike, name: str) -> jax.Array:
    points = as_coordinates(points, name)
    if points.ndim < 2 or points.shape[-1] != 2 or points.shape[-2] < 3:
        raise ValueError(
            f"{name} must be (*batch, K, 2), with at least 3 points; got shape "
            f"{points.shape}"
        )
    return points

"""Thin plate spline sampling grids (Bookstein, 1989), the paper's most flexible T."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike, DTypeLike

from .._batching import lift
from .._checks import as_points, as_size, check_regularization
from .._types import Size
from ..coordinates import at_finite, axis_of_centers


def control_lattice(
    shape: Sequence[int], *, dtype: DTypeLike | None = None
) -> jax.Array:
    """The regular lattice of control points: a thin plate spline's identity.

    Args:
      shape: ``(rows, columns)``, or ``(layers, rows, columns)``, static.
      dtype: of the result; JAX's default float when None.

    Returns:
      ``(K, 2)`` with ``K = rows * columns``, last axis ``(x, y)``, or ``(K, 3)``, last
      axis ``(x, y, z)``, row-major (x moves fastest), spanning [-1, 1] inclusive,
      normalized. A single row or column is at 0.

    Raises:
      TypeError, ValueError: ``shape`` is not two or three positive integers.

    >>> control_lattice((2, 2))
    Array([[-1., -1.],
           [ 1., -1.],
           [-1.,  1.],
           [ 1.,  1.]], dtype=float32)
    """
    shape = as_size(shape, _SHAPE)
    return jnp.asarray(lattice_points(shape), float if dtype is None else dtype)


_SHAPE = "shape must be (rows, columns) or (layers, rows, columns), positive integers"


def lattice_points(shape: tuple[int, ...], *, align_corners: bool = True) -> np.ndarray:
    """The regular points of a size, row-major, (x, y) or (x, y, z), in float64."""
    lines = [axis_of_centers(n, align_corners) for n in shape]
    axes = np.meshgrid(*lines, indexing="ij")
    return np.stack(axes[::-1], axis=-1).reshape(-1, len(shape))


def tps_grid(
    control_points: ArrayLike,
    size: Size,
    *,
    target_points: ArrayLike | None = None,
    regularization: ArrayLike = 0.0,
    align_corners: bool = False,
) -> jax.Array:
    r"""The sampling grid of a thin plate spline.

    The spline maps each target point :math:`t_k` of the output to its control point in
    the input:

    .. math:: f(p) = a_0 + A p + \sum_k w_k \, U(|p - t_k|), \quad U(r) = r^2 \log r

    In two dimensions it has the least bending energy of all such maps (Bookstein,
    1989). In three we use the same kernel, as SciPy does. The spline is linear in the
    control points. If the target points are known when tracing, we solve its system
    once, in float64, and the program only multiplies by the solution.

    Args:
      control_points: ``(*batch, K, 2)``, last axis ``(x, y)``, or ``(*batch, K, 3)``,
        last axis ``(x, y, z)``, normalized: the points of the input that the target
        points are mapped to. The identity is the target points themselves.
      size: of the output, ``(height, width)`` or ``(depth, height, width)``, static.
      target_points: ``(*batch, K, 2)`` or ``(*batch, K, 3)``, normalized: points of the
        output; by default ``control_lattice((n, n))`` with ``n * n == K``, or
        ``control_lattice((n, n, n))`` with ``n**3 == K``.
      regularization: the ridge on the kernel's diagonal (SciPy's ``smoothing``): 0
        interpolates the control points; larger values approach their best affine map.
      align_corners: what -1 and 1 are: the centers of the outermost pixels (True) or
        the edges of the image (False). It moves the pixels, not the points.

    Returns:
      ``(*batch, height, width, 2)``, last axis ``(x, y)``, or ``(*batch, depth, height,
      width, 3)``, last axis ``(x, y, z)``, normalized; float32 or better.

    Raises:
      TypeError, ValueError: shapes that do not fit, a ``size`` that is not two or three
        positive integers, no ``target_points`` where K is not a square (a cube), or
        target points that all lie on a line (a plane) or repeat (when traced, these
        give NaN or meaningless numbers).

    >>> from stn_jax import identity_grid
    >>> lattice = control_lattice((4, 4))
    >>> grid = tps_grid(lattice * 0.5, (28, 28))  # zooms in by 2
    >>> bool(jnp.allclose(grid, identity_grid((28, 28)) * 0.5, atol=1e-5))
    True
    """
    size = as_size(size)
    ndim = len(size)
    control_points = as_points(control_points, "control_points", (ndim,), ndim + 1)
    targets = _as_targets(target_points, control_points)
    known = not any(isinstance(x, Tracer) for x in (targets, regularization))
    check_regularization(regularization)
    xp = np if known else jnp
    with jax.default_matmul_precision("highest"):
        basis = _basis(xp, targets, regularization, size, align_corners)
        basis = jnp.asarray(basis, control_points.dtype)
        grid = lift(
            _combination,
            "(p,k),(k,n)->(p,n)",
            target_points=basis,
            control_points=control_points,
        )
    return grid.reshape(*grid.shape[:-2], *size, ndim)


def _combination(target_points: jax.Array, control_points: jax.Array) -> jax.Array:
    """The points ``(p, n)``, of the basis ``(p, k)`` that the target points span."""
    return target_points @ control_points


_BLOCK = 256  # pixels


@dataclass(frozen=True)
class SplineSource:
    """How control points of a lattice, theta ``(n, K)``, describe those of a grid."""

    shape: tuple[int, ...]
    regularization: float = 0.0
    is_axis_aligned: ClassVar[bool] = False
    is_spline: ClassVar[bool] = True

    def points(
        self, theta: jax.Array, size: tuple[int, ...], align_corners: bool
    ) -> jax.Array:
        """The grid ``(*size, n)``."""
        basis = jnp.asarray(self.table(size, align_corners).T, theta.dtype)
        with jax.default_matmul_precision("highest"):
            return _combination(basis, theta.T).reshape(*size, len(size))

    def table(self, size: tuple[int, ...], align_corners: bool) -> np.ndarray:
        """The weight of each control point in each pixel of the output: ``(K, S)``."""
        return _lattice_basis(self.shape, self.regularization, size, align_corners)


@lru_cache(maxsize=8)
def _lattice_basis(
    shape: tuple[int, ...], regularization: float, size: tuple[int, ...], corners: bool
) -> np.ndarray:
    return _basis(np, lattice_points(shape), regularization, size, corners).T


def tps_points(
    control_points: jax.Array,
    points: jax.Array,
    target_points: np.ndarray,
    regularization: ArrayLike,
) -> jax.Array:
    """The spline of known target points at points ``(*batch, P, n)``."""
    targets = jnp.asarray(target_points, control_points.dtype)
    if isinstance(regularization, Tracer):
        coefficients = _coefficients(jnp, targets, regularization)
    else:
        coefficients = _coefficients(np, target_points, regularization)
    coefficients = jnp.asarray(coefficients, control_points.dtype)

    with jax.default_matmul_precision("highest"):
        return lift(
            _spline_at,
            "(m,k),(k,n),(k,n),(p,n)->(p,n)",
            coefficients=coefficients,
            target_points=targets,
            params=control_points,
            points=points,
        )


def _spline_at(
    coefficients: jax.Array,
    target_points: jax.Array,
    params: jax.Array,
    points: jax.Array,
) -> jax.Array:
    spline = coefficients @ params

    def at(points: jax.Array) -> jax.Array:
        return spline_terms(jnp, points, target_points) @ spline

    return at_finite(at, points)


def _basis(
    xp: Any, targets: Any, regularization: Any, size: tuple[int, ...], corners: bool
) -> Any:
    """The weight of each control point in each output pixel: (*batch, h * w, K).

    ``xp`` is NumPy, in float64, if all is known when tracing, else jax.numpy.
    """
    coefficients = _coefficients(xp, targets, regularization)

    def basis_at(pixels: Any) -> Any:
        pixels = xp.broadcast_to(pixels, (*targets.shape[:-2], *pixels.shape))
        return spline_terms(xp, pixels, targets) @ coefficients

    pixels = xp.asarray(lattice_points(size, align_corners=corners), targets.dtype)
    if xp is not np:
        return basis_at(pixels)
    # a few pixels at a time, so that the terms stay in the CPU's cache
    parts = np.split(pixels, range(_BLOCK, len(pixels), _BLOCK))
    return np.concatenate([basis_at(part) for part in parts], axis=-2)


def _coefficients(xp: Any, targets: Any, regularization: Any) -> Any:
    """The coefficients of all terms for each control point: (*batch, K + n + 1, K).

    They solve [[U + ridge, P], [P.T, 0]] [w, a] = [control points, 0], where P holds
    the affine terms of the target points.
    """
    k = targets.shape[-2]
    above = spline_terms(xp, targets, targets)
    below = xp.swapaxes(above[..., k:], -1, -2)
    corner = xp.zeros((*below.shape[:-1], below.shape[-2]), below.dtype)
    below = xp.concatenate([below, corner], -1)
    ridge = xp.asarray(regularization, above.dtype)
    ridge = ridge * xp.eye(*above.shape[-2:], dtype=above.dtype)
    above = above + xp.broadcast_to(ridge, above.shape)
    system = xp.concatenate([above, below], axis=-2)
    if xp is np and system.size and np.any(np.linalg.cond(system) > 1e12):
        raise ValueError(
            "target_points must not repeat or all lie on a line (in three dimensions: "
            f"on a plane): no spline is determined by\n{targets}"
        )
    unit = xp.eye(*system[..., :k].shape[-2:], dtype=system.dtype)
    return xp.linalg.solve(system, xp.broadcast_to(unit, system[..., :k].shape))


def spline_terms(xp: Any, points: Any, targets: Any) -> Any:
    """The spline's terms U(|p - t_k|), 1, x, y(, z) at each point: (*batch, P, K + n
    + 1).
    """
    axes = range(points.shape[-1])
    squared = sum((points[..., i, None] - targets[..., None, :, i]) ** 2 for i in axes)
    radial = _thin_plate(xp, squared)
    points = xp.broadcast_to(points, (*radial.shape[:-1], points.shape[-1]))
    return xp.concatenate([radial, xp.ones_like(points[..., :1]), points], axis=-1)


def _thin_plate(xp: Any, squared: Any) -> Any:
    """U(r) = r**2 log r, as a function of r**2; 0 at r = 0.

    The inner where keeps log(0) out of the derivatives, which would become NaN.
    """
    is_zero = squared == 0
    return xp.where(is_zero, 0, squared * xp.log(xp.where(is_zero, 1, squared)) / 2)


def _as_targets(target_points: Any, control_points: jax.Array) -> Any:
    """The target points: traced ones as given, known ones in NumPy's float64."""
    k, ndim = control_points.shape[-2:]
    if target_points is None:
        side = round(k ** (1 / ndim))
        if side**ndim != k:
            lattice = {2: "n * n control points, a square", 3: "n**3, a cubic"}[ndim]
            raise ValueError(
                f"without target_points there must be {lattice} lattice; got {k}"
            )
        return lattice_points((side,) * ndim)
    checked = as_points(target_points, "target_points", (ndim,))
    if checked.shape[-2] != k:
        raise ValueError(
            f"target_points must be as many as control_points, {k}; got shape "
            f"{checked.shape}"
        )
    if isinstance(target_points, Tracer):
        return checked
    return np.asarray(target_points, np.float64)

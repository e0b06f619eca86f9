"""Transformations in world coordinates, as of medical volumes with voxel spacings."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from ._batching import check_broadcast
from ._checks import as_coordinates, as_size, check_choice, promote
from ._types import Size
from .matrices import from_pixel


def from_world(
    matrix: ArrayLike,
    input_affine: ArrayLike,
    output_affine: ArrayLike,
    size: Size,
    output_size: Size | None = None,
    *,
    align_corners: bool = False,
    order: str = "xy",
    direction: str = "backward",
) -> jax.Array:
    """Convert an affine matrix in world coordinates, such as millimeters, to theta.

    An affine maps voxel indices to the world, ``p = affine @ (i, j, k, 1)``, as in
    NIfTI: its columns are the steps from voxel to voxel, then comes the center of the
    first voxel. The input is the moving image, the output the fixed one. If all is
    known when tracing, we multiply in float64.

    Args:
      matrix: ``(*batch, n + 1, n + 1)`` or ``(*batch, n, n + 1)``, from world to world;
        ``jnp.eye(n + 1)`` resamples the input on the voxels of the output.
      input_affine: of the input, ``(*batch, n + 1, n + 1)`` or ``(*batch, n, n + 1)``;
        or spacings alone, ``(*batch, n)``: the first voxel is at 0 then, and axes are
        those of the world.
      output_affine: of the output, in the same way.
      size: of the input, ``(depth, height, width)`` or ``(height, width)``, static.
      output_size: of the output; that of the input when None.
      align_corners: what -1 and 1 are to be for theta: the centers of the outermost
        voxels (True) or the edges of the image (False).
      order: of the voxel indices, the affines' columns and the spacings. "ij": that of
        the array's axes, as nibabel loads NIfTI, ``image[i, j, k]``. "xy": the last
        axis first, (x, y, z) for ``image[z, y, x]``, as in SimpleITK's
        ``GetSpacing()`` and ``GetArrayFromImage``. The axes of the world may have any
        order, in all matrices the same.
      direction: of ``matrix``. "backward": from the output's world to the input's, from
        fixed to moving points, as ITK's transforms map; "forward": from input to
        output.

    Returns:
      theta, ``(*batch, n, n + 1)``, normalized: for :func:`~stn_jax.affine_grid` with
      the same ``align_corners``, and flat for ``Affine``.

    Raises:
      TypeError, ValueError: matrices or spacings of other dimensions than ``size``; a
        known matrix without an inverse, or spacing that is not positive; an unknown
        ``order`` or ``direction``.

    >>> spacing = jnp.array([1.0, 1.0, 2.5])  # x, y, z, in millimeters
    >>> shift = jnp.eye(4).at[2, 3].set(5.0)  # 5 mm in z, which are two slices
    >>> from_world(shift, spacing, spacing, (8, 16, 16))
    Array([[1. , 0. , 0. , 0. ],
           [0. , 1. , 0. , 0. ],
           [0. , 0. , 1. , 0.5]], dtype=float32)
    """
    size = as_size(size)
    n = len(size)
    check_choice("direction", direction, ("backward", "forward"))
    given = {
        "matrix": matrix,
        "input_affine": input_affine,
        "output_affine": output_affine,
    }
    is_known = not any(isinstance(value, Tracer) for value in given.values())
    dtype = jnp.dtype(jnp.float32)
    for name, value in given.items():
        dtype = promote(dtype, as_coordinates(value, name).dtype)
    xp = np if is_known else jnp
    working = np.float64 if is_known else dtype
    world, start, end = (
        _homogeneous_of(xp, xp.asarray(value, working), name, n)
        for name, value in given.items()
    )
    batches = zip(given, (world, start, end), strict=True)
    check_broadcast({name: array.shape[:-2] for name, array in batches})
    if direction == "forward":
        world = _inverse_of(xp, world, "matrix")
    with jax.default_matmul_precision("highest"):
        voxels = _inverse_of(xp, start, "input_affine") @ world @ end
    return from_pixel(
        voxels[..., :n, :].astype(dtype),
        size,
        output_size,
        align_corners=align_corners,
        order=order,
    )


def _homogeneous_of(xp: Any, array: Any, name: str, n: int) -> Any:
    """The matrix ``(*batch, n + 1, n + 1)`` of a matrix or of spacings."""
    if name != "matrix" and array.shape[-1:] == (n,):
        if xp is np and np.any(array <= 0):
            raise ValueError(f"{name} as spacings must be positive; got\n{array}")
        steps = xp.eye(n, n + 1, dtype=array.dtype)
        steps = xp.broadcast_to(steps, (*array.shape, n + 1))
        array = array[..., None] * steps
    if array.shape[-2:] not in ((n, n + 1), (n + 1, n + 1)):
        spacings = "" if name == "matrix" else f", or spacings (*batch, {n})"
        raise ValueError(
            f"{name} must be (*batch, {n}, {n + 1}) or (*batch, {n + 1}, {n + 1})"
            f"{spacings}, for images of {n} axes; got shape {array.shape}"
        )
    last = xp.eye(n + 1, dtype=array.dtype)[n:]
    if xp is np and np.any(array[..., n:, :] != last):
        raise ValueError(f"{name} must have the last row {last[0]}; got\n{array}")
    last = xp.broadcast_to(last, (*array.shape[:-2], 1, n + 1))
    return xp.concatenate([array[..., :n, :], last], axis=-2)


def _inverse_of(xp: Any, matrix: Any, name: str) -> Any:
    try:
        return xp.linalg.inv(matrix)
    except np.linalg.LinAlgError as error:  # of NumPy, which knows the numbers
        raise ValueError(f"{name} must have an inverse; got\n{matrix}") from error

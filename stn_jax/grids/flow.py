"""Sampling grids of displacement fields."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._checks import as_coordinates, as_size
from .._types import Size
from ..coordinates import axis_displacement, open_grid


def flow_grid(
    flow: ArrayLike, size: Size | None = None, *, align_corners: bool = False
) -> jax.Array:
    """The sampling grid of a displacement field.

    The displacements are added to the identity grid: output pixel (i, j) is sampled
    ``flow[i, j]`` pixels away from its own place in the input.

    Args:
      flow: ``(*batch, height, width, 2)``, last axis ``(dx, dy)``, or ``(*batch, depth,
        height, width, 3)``, last axis ``(dx, dy, dz)``, in pixels of the input, output
        to input.
      size: of the input, static; that of the flow when None.
      align_corners: what -1 and 1 are: the centers of the outermost pixels (True) or
        the edges of the image (False), as in PyTorch.

    Returns:
      The shape of ``flow``, normalized; float32 or better.

    Raises:
      TypeError, ValueError: ``flow`` is no such array, ``size`` is not positive
        integers, one for each coordinate.

    >>> flow = jnp.zeros((1, 4, 2)).at[..., 0].set(1.0)  # one pixel to the right
    >>> flow_grid(flow)[0, :, 0]
    Array([-0.25,  0.25,  0.75,  1.25], dtype=float32)
    """
    flow = as_coordinates(flow, "flow")
    ndim = flow.shape[-1] if flow.ndim else 0
    if ndim not in (2, 3) or flow.ndim < ndim + 1:
        raise ValueError(
            "flow must be (*batch, height, width, 2) or (*batch, depth, height, width, "
            f"3); got shape {flow.shape}"
        )
    own = as_size(flow.shape[-ndim - 1 : -1])
    size = own if size is None else as_size(size, ndims=(ndim,))
    identity = open_grid(own, align_corners=align_corners, dtype=flow.dtype)
    columns = []
    for i, (axis, n) in enumerate(zip(identity, reversed(size), strict=True)):
        displacement = axis_displacement(flow[..., i], n, align_corners)
        axis = jnp.expand_dims(axis, range(displacement.ndim - axis.ndim))
        columns.append(axis + displacement)
    return jnp.stack(columns, axis=-1)

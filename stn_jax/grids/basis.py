"""Sampling grids that are linear in their parameters."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._checks import as_coordinates, promote
from .._types import Theta


def basis_grid(theta: Theta, basis: ArrayLike) -> jax.Array:
    r"""The sampling grid of a transformation that is linear in its parameters.

    The paper's general form (section 3.2): each coordinate of a source point is a sum
    of given functions of the output pixel, with the parameters as coefficients,

    .. math:: T_\theta(G) = M_\theta B

    The functions x, y and 1 give the affine transformations.

    Args:
      theta: ``(*batch, d, K)``, d = 2 or 3: the coefficients of (x, y) or (x, y, z).
      basis: ``(*size, K)``: the K functions at each output pixel, in units in which
        the sums come out normalized.

    Returns:
      ``(*batch, *size, d)``, normalized; float32 or better.

    Raises:
      TypeError, ValueError: shapes that do not fit each other.

    >>> from stn_jax import identity_grid
    >>> ones = jnp.ones((4, 5, 1))
    >>> basis = jnp.concatenate([identity_grid((4, 5)), ones], axis=-1)
    >>> basis_grid(jnp.eye(2, 3), basis).shape  # the identity, affine
    (4, 5, 2)
    """
    theta, basis = as_coordinates(theta, "theta"), as_coordinates(basis, "basis")
    ndim = theta.shape[-2] if theta.ndim >= 2 else 0
    if ndim not in (2, 3):
        raise ValueError(f"theta must be (*batch, 2 or 3, K); got shape {theta.shape}")
    if basis.ndim != ndim + 1 or basis.shape[-1] != theta.shape[-1]:
        raise ValueError(
            f"basis must be (*size, {theta.shape[-1]}), with {ndim} axes of size, for "
            f"theta of shape {theta.shape}; got shape {basis.shape}"
        )
    dtype = promote(theta.dtype, basis.dtype)
    pixels = basis.reshape(-1, basis.shape[-1]).astype(dtype)
    grid = jnp.einsum(
        "...dk,pk->...pd", theta.astype(dtype), pixels, precision="highest"
    )
    return grid.reshape(*theta.shape[:-2], *basis.shape[:-1], ndim)

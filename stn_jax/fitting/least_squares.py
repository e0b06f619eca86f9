"""Small least squares, defined and differentiable for singular systems as well."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def pseudo_solve(matrix: jax.Array, right: jax.Array) -> jax.Array:
    """The smallest x with the smallest ``|matrix x - right|``, for a symmetric matrix.

    Directions in which the matrix vanishes to rounding are left at 0. Derivatives treat
    these directions as constants. In all others they are exact to any order, and they
    never divide by a difference of eigenvalues, as an eigendecomposition's do.
    """
    values, vectors = jnp.linalg.eigh(jax.lax.stop_gradient(matrix))
    values = jnp.abs(values)
    rounding = 10 * len(matrix) * jnp.finfo(matrix.dtype).eps
    keep = values > rounding * values.max()
    basis = vectors * keep[None, :].astype(matrix.dtype)  # the others become zero
    inner = basis.T @ matrix @ basis + jnp.diag(~keep).astype(matrix.dtype)
    return basis @ jnp.linalg.solve(inner, basis.T @ right)


def least_squares(
    terms: jax.Array, values: jax.Array, weights: jax.Array, ridge: jax.Array
) -> jax.Array:
    """The x (K,) of the least ``sum weights (terms x - values)**2 + ridge |x|**2``.

    The normal equations square the condition number. A second pass makes up for this:
    it solves for the residual of the first.
    """
    normal = terms.T @ (weights[:, None] * terms)
    normal = normal + ridge * jnp.eye(len(normal), dtype=normal.dtype)
    x = jnp.zeros_like(normal[0])
    for _ in range(2):
        left = terms.T @ (weights * (values - terms @ x)) - ridge * x
        x = x + pseudo_solve(normal, left)
    return x


def rank(terms: jax.Array, weights: jax.Array) -> jax.Array:
    """The number of the K unknowns of :func:`least_squares` that are determined."""
    values = jnp.linalg.eigvalsh(terms.T @ (weights[:, None] * terms))
    rounding = 10 * len(values) * jnp.finfo(values.dtype).eps
    return jnp.sum(values > rounding * values.max())

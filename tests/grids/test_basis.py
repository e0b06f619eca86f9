"""Grids that are linear in a basis."""

import chex
import jax.numpy as jnp
import numpy as np
import pytest

from stn_jax import affine_grid, basis_grid, identity_grid

pytestmark = pytest.mark.usefixtures("strict")
SIZES = [(4, 7), (1, 3), (3, 2, 5)]


@pytest.mark.parametrize("size", SIZES)
def test_the_basis_x_y_1_is_affine(rng, size):
    ones = jnp.ones((*size, 1))
    basis = jnp.concatenate([identity_grid(size), ones], axis=-1)
    theta = jnp.asarray(rng.normal(size=(3, 2, len(size), len(size) + 1)), jnp.float32)
    grid = basis_grid(theta, basis)
    assert grid.shape == (3, 2, *size, len(size))
    chex.assert_trees_all_close(grid, affine_grid(theta, size), atol=1e-5)


def test_any_basis(x64, rng):
    theta, basis = rng.normal(size=(2, 5)), rng.normal(size=(3, 4, 5))
    grid = basis_grid(theta, basis)
    for index in np.ndindex(3, 4):
        np.testing.assert_allclose(grid[index], theta @ basis[index], rtol=1e-12)


@pytest.mark.parametrize(
    ("theta", "basis"),
    [
        ((5,), (3, 4, 5)),
        ((4, 5), (3, 4, 5)),
        ((2, 5), (3, 4, 6)),
        ((2, 5), (4, 5)),
        ((3, 5), (3, 4, 5)),
    ],
)
def test_a_basis_that_does_not_fit(theta, basis):
    with pytest.raises(ValueError, match=r"must be .* got shape"):
        basis_grid(jnp.zeros(theta), jnp.zeros(basis))

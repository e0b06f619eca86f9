"""Affine grids: eq. (1), against loops and PyTorch, and their errors."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references

from stn_jax import affine_grid, identity_grid

pytestmark = pytest.mark.usefixtures("strict")


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(4, 7), (1, 3), (3, 2, 5)])
def test_every_point_is_theta_times_the_target(rng, size, align_corners):
    theta = rng.normal(size=(len(size), len(size) + 1))
    grid = affine_grid(theta.astype(np.float32), size, align_corners=align_corners)
    expected = references.affine_grid(theta, size, align_corners)
    np.testing.assert_allclose(grid, expected, atol=1e-6)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("ndim", [2, 3])
def test_agrees_with_pytorch(torch_fixtures, x64, ndim, align_corners):
    theta = torch_fixtures[f"{ndim}/theta"]
    expected = torch_fixtures[f"{ndim}/{align_corners}/affine_grid"]
    grid = affine_grid(theta, expected.shape[1:-1], align_corners=align_corners)
    assert grid.dtype == jnp.float64
    np.testing.assert_allclose(grid, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("batch", [(), (1,), (3, 2), (0,)])
def test_leading_axes_are_batch_axes(rng, batch):
    theta = rng.normal(size=(*batch, 2, 3)).astype(np.float32)
    grid = affine_grid(theta, (4, 5))
    assert grid.shape == (*batch, 4, 5, 2)
    for index in np.ndindex(*batch):
        chex.assert_trees_all_close(grid[index], affine_grid(theta[index], (4, 5)))


@pytest.mark.parametrize("size", [(5, 8), (2, 3, 4)])
def test_the_identity_is_exact(size):
    theta = jnp.eye(len(size), len(size) + 1)
    chex.assert_trees_all_equal(affine_grid(theta, size), identity_grid(size))


def test_no_matrix_product_rounds_the_coordinates():
    """On a TPU one at default precision keeps 8 bits, on a GPU 11."""
    jaxpr = jax.make_jaxpr(lambda t: affine_grid(t, (8, 8)))(jnp.zeros((4, 2, 3)))
    assert "dot_general" not in str(jaxpr)


def test_half_precision_theta_is_widened_and_integers_are_fine():
    assert affine_grid(jnp.eye(2, 3, dtype=jnp.bfloat16), (3, 3)).dtype == jnp.float32
    grid = affine_grid([[1, 0, 0], [0, 1, 0]], (3, 4))
    chex.assert_trees_all_equal(grid, identity_grid((3, 4)))


@pytest.mark.parametrize(
    ("shape", "size"),
    [((6,), (3, 3)), ((2, 2), (3, 3)), ((3, 4), (3, 3)), ((4, 2, 3), (3, 3, 3))],
)
def test_theta_that_is_no_matrix(shape, size):
    with pytest.raises(
        ValueError, match=r"theta must be matrices .* got shape"
    ) as info:
        affine_grid(jnp.zeros(shape), size)
    assert str(shape) in str(info.value)


@pytest.mark.parametrize(("batch", "n"), [((), 2), ((5,), 2), ((2, 3), 3)])
def test_the_remedy_for_a_flat_theta_is_code_that_runs(rng, batch, n):
    theta = jnp.asarray(rng.normal(size=(*batch, n * (n + 1))), jnp.float32)
    size = (3, 4, 2)[:n]
    with pytest.raises(ValueError, match=rf"reshape\(\*batch, {n}, {n + 1}\)") as info:
        affine_grid(theta, size)
    remedy = re.search(r"here (theta\.reshape\(.*\))", str(info.value))[1]
    matrices = eval(remedy, {"theta": theta})
    chex.assert_trees_all_equal(matrices, theta.reshape(*batch, n, n + 1))
    assert affine_grid(matrices, size).shape == (*batch, *size, n)


@pytest.mark.parametrize("n", [2, 3])
def test_the_remedy_for_homogeneous_matrices_is_code_that_runs(n):
    theta, size = jnp.broadcast_to(jnp.eye(n + 1), (5, n + 1, n + 1)), (3, 4, 2)[:n]
    with pytest.raises(ValueError, match="Of homogeneous matrices take all") as info:
        affine_grid(theta, size)
    remedy = re.search(r"(theta\[.*\])", str(info.value))[1]
    assert remedy == "theta[..., :-1, :]"
    grid = affine_grid(eval(remedy, {"theta": theta}), size)
    chex.assert_trees_all_equal(grid[2], identity_grid(size))

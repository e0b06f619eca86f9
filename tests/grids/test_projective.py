"""Projective grids: quotients, scale invariance, points at infinity."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references

from stn_jax import affine_grid, projective_grid, sample

pytestmark = pytest.mark.usefixtures("strict")
SIZES = [(4, 7), (1, 3), (3, 2, 5)]
CORNERS = [False, True]


def homogeneous(theta):
    row = jnp.zeros((*theta.shape[:-2], 1, theta.shape[-1])).at[..., -1].set(1)
    return jnp.concatenate([theta, row], axis=-2)


@pytest.mark.parametrize("align_corners", CORNERS)
@pytest.mark.parametrize("size", SIZES)
def test_projective_points_are_quotients(x64, rng, size, align_corners):
    n = len(size) + 1
    theta = np.eye(n) + 0.2 * rng.normal(size=(n, n))
    grid = projective_grid(theta, size, align_corners=align_corners)
    targets = references.identity_grid(size, align_corners)
    for index in np.ndindex(*size):
        *source, w = theta @ np.append(targets[index], 1)
        np.testing.assert_allclose(grid[index], np.array(source) / w, rtol=1e-12)


@pytest.mark.parametrize("size", SIZES)
def test_an_affine_matrix_is_a_projective_one(rng, size):
    theta = jnp.asarray(rng.normal(size=(3, 2, len(size), len(size) + 1)), jnp.float32)
    grid = projective_grid(homogeneous(theta), size)
    assert grid.shape == (3, 2, *size, len(size))
    chex.assert_trees_all_close(grid, affine_grid(theta, size), atol=1e-6)


@pytest.mark.parametrize("factor", [-1.0, 1e-20, -3e15])
def test_a_factor_changes_nothing(rng, factor):
    theta = jnp.asarray(np.eye(3) + 0.2 * rng.normal(size=(3, 3)), jnp.float32)
    grid = projective_grid(theta, (5, 6))
    scaled = projective_grid(factor * theta, (5, 6))
    chex.assert_trees_all_close(scaled, grid, rtol=1e-5)


@pytest.mark.parametrize("padding_mode", ["zeros", "constant", "reflection", "wrap"])
def test_at_infinity_there_is_padding_and_no_gradient(padding_mode):
    """The middle column of three has w = x = 0; the left one is behind."""
    theta = jnp.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    fill = 0.0 if padding_mode == "zeros" else 0.5
    options = {"padding_mode": padding_mode, "fill_value": fill}

    def sampled(theta, column):
        grid = projective_grid(theta, (3, 3))
        out = sample(jnp.ones((3, 3, 1)), grid, **options)
        return out[1, column, 0]

    value, slope = jax.value_and_grad(sampled)(theta, 1)
    assert value == fill
    assert (slope == 0).all()
    for column in (0, 2):
        value, slope = jax.value_and_grad(sampled)(theta, column)
        assert jnp.isfinite(value)
        assert jnp.isfinite(slope).all()
    nothing = projective_grid(jnp.zeros((3, 3)), (2, 2))
    assert jnp.isinf(nothing).all()


@pytest.mark.parametrize(
    ("shape", "size"), [((9,), (3, 3)), ((2, 3), (3, 3)), ((3, 3), (3, 3, 3))]
)
def test_theta_that_is_no_square_matrix(shape, size):
    with pytest.raises(ValueError, match=r"theta must be matrices .* got shape"):
        projective_grid(jnp.zeros(shape), size)

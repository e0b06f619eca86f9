"""Projective grids, displacement fields, the general linear form, warp."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references

from stn_jax import (
    Kernel,
    affine_grid,
    basis_grid,
    flow_grid,
    identity_grid,
    projective_grid,
    sample,
    warp,
)
from stn_jax.transforms import Affine, ThinPlateSpline

pytestmark = pytest.mark.usefixtures("strict")
SIZES = [(4, 7), (1, 3), (3, 2, 5)]
CORNERS = [False, True]


def homogeneous(theta):
    row = jnp.zeros((*theta.shape[:-2], 1, theta.shape[-1])).at[..., -1].set(1)
    return jnp.concatenate([theta, row], axis=-2)


# projective


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

    def read(theta, column):
        grid = projective_grid(theta, (3, 3))
        out = sample(jnp.ones((3, 3, 1)), grid, **options)
        return out[1, column, 0]

    value, slope = jax.value_and_grad(read)(theta, 1)
    assert value == fill
    assert (slope == 0).all()
    for column in (0, 2):
        value, slope = jax.value_and_grad(read)(theta, column)
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


# displacement fields


@pytest.mark.parametrize("align_corners", CORNERS)
@pytest.mark.parametrize("size", SIZES)
def test_a_flow_moves_by_pixels(rng, size, align_corners):
    image = rng.normal(size=(*size, 2)).astype(np.float32)
    flow = rng.uniform(-2, 2, size=(*size, len(size))).astype(np.float32)
    index = np.stack(np.indices(size)[::-1], axis=-1).astype(np.float32)
    if align_corners:  # an axis of one pixel has no extent to move in
        flow = flow * np.array([n > 1 for n in size[::-1]], np.float32)
    out = sample(
        image, flow_grid(flow, align_corners=align_corners), align_corners=align_corners
    )
    expected = sample(image, index + flow, coordinates="pixel")
    np.testing.assert_allclose(out, expected, atol=2e-5)


def test_a_flow_of_another_resolution_is_in_the_inputs_pixels():
    flow = jnp.zeros((2, 3, 4, 2)).at[..., 0].set(5.0).at[..., 1].set(-2.0)
    grid = flow_grid(flow, (8, 20))
    shift = jnp.broadcast_to(jnp.array([2 * 5 / 20, -2 * 2 / 8]), (3, 4, 2))
    expected = identity_grid((3, 4)) + shift
    chex.assert_trees_all_close(grid[1], expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(2,), (3, 2), (3, 4), (3, 4, 3)])
def test_a_flow_of_the_wrong_shape(shape):
    with pytest.raises(ValueError, match=r"flow must be .* got shape"):
        flow_grid(jnp.zeros(shape))


def test_a_flow_knows_its_inputs_dimensions():
    with pytest.raises(ValueError, match="size must be"):
        flow_grid(jnp.zeros((3, 4, 2)), (3, 4, 5))


# the general linear form


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


# warp


@pytest.mark.parametrize("align_corners", CORNERS)
def test_warp_is_the_two_steps_in_one(rng, align_corners):
    image = jnp.asarray(rng.normal(size=(3, 2, 5, 6, 2)), jnp.float32)
    family = ThinPlateSpline((3, 3))
    params = (
        family.identity + jnp.asarray(0.2 * rng.normal(size=(2, 18)), jnp.float32)[0]
    )
    options = {"method": "bicubic", "padding_mode": "border"}
    out = warp(image, family, params, (4, 3), align_corners=align_corners, **options)
    grid = family.grid(params, (4, 3), align_corners=align_corners)
    expected = sample(image, grid, align_corners=align_corners, **options)
    assert out.shape == (3, 2, 4, 3, 2)
    chex.assert_trees_all_equal(out, expected)


def test_warp_keeps_the_images_size(rng):
    volume = jnp.asarray(rng.normal(size=(2, 3, 4, 5, 1)), jnp.float32)
    family = Affine(ndim=3)
    chex.assert_trees_all_close(
        warp(volume, family, family.identity), volume, atol=1e-5
    )
    kernel = Kernel(1, lambda d: 1 - jnp.abs(d))
    out = warp(volume, family, family.identity, method=kernel)
    chex.assert_trees_all_close(out, volume, atol=1e-5)


def test_a_family_of_ones_own():
    """Three members are enough."""

    class Shift:
        num_params = 1
        identity = jnp.zeros(1)

        def grid(self, params, size, *, align_corners=False):
            shift = jnp.stack([params[..., 0], jnp.zeros_like(params[..., 0])], axis=-1)
            return identity_grid(size, align_corners=align_corners) + jnp.broadcast_to(
                shift, (*size, 2)
            )

    image = jnp.arange(4.0).reshape(1, 4, 1)
    out = warp(image, Shift(), jnp.array([0.5]))
    np.testing.assert_allclose(out[0, :, 0], [1, 2, 3, 0], atol=1e-6)

"""Displacement: a field of displacements on a lattice."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references
from families import FIELDS, draw, size_for
from gradients import check_derivatives
from scipy import ndimage

from stn_jax import control_lattice, flow_grid, sample, warp
from stn_jax.transforms import Affine, Chain, Displacement

pytestmark = pytest.mark.usefixtures("strict")
CORNERS = [False, True]


@pytest.mark.parametrize("align_corners", CORNERS)
@pytest.mark.parametrize("family", FIELDS, ids=str)
def test_the_field_is_an_image_of_displacements(x64, rng, family, align_corners):
    """Sampled by plain loops, at the pixels of either convention."""
    params, size = draw(rng, family, (), float), size_for(family)
    field = params.reshape(*family.shape, family.ndim)
    pixels = references.identity_grid(size, align_corners)
    sampled = references.bilinear_sample(field, pixels, "border", family.align_corners)
    grid = family.grid(params, size, align_corners=align_corners)
    np.testing.assert_allclose(grid, pixels + sampled, atol=1e-14)


def test_points_outside_take_the_nearest_displacement(x64, rng):
    family = Displacement((4, 3))
    params = draw(rng, family, (), float)
    points = rng.uniform(-2, 2, size=(50, 2))
    where = [references.pixel(points[:, i], n, False) for i, n in ((1, 4), (0, 3))]
    expected = [
        ndimage.map_coordinates(plane, where, order=1, mode="nearest")
        for plane in np.moveaxis(params.reshape(4, 3, 2), -1, 0)
    ]
    out = family.apply(params, points)
    np.testing.assert_allclose(out - points, np.stack(expected, -1), atol=1e-14)


@pytest.mark.parametrize("align_corners", CORNERS)
def test_one_displacement_for_each_pixel(rng, align_corners):
    """That of ``flow_grid``, which takes pixels."""
    size = (5, 7)
    flow = rng.normal(size=(2, *size, 2)).astype(np.float32)
    half = (np.array([7, 5]) - (1 if align_corners else 0)) / 2
    family = Displacement(size, align_corners=align_corners)
    params = (flow / half).astype(np.float32).reshape(2, -1)
    grid = family.grid(params, size, align_corners=align_corners)
    expected = flow_grid(flow, align_corners=align_corners)
    np.testing.assert_allclose(grid, expected, atol=2e-6)


def test_with_aligned_corners_the_lattice_is_that_of_splines(rng):
    family = Displacement((3, 4), align_corners=True)
    params, lattice = draw(rng, family), control_lattice((3, 4))
    moved = family.apply(params, lattice)
    np.testing.assert_allclose(moved - lattice, params.reshape(-1, 2), atol=1e-6)


def test_an_affine_and_a_field_sample_once(rng):
    image = rng.normal(size=(8, 9, 1)).astype(np.float32)
    chain = Chain(Affine(), Displacement((3, 3)))
    theta = np.array([[0.8, 0.3, 0.1], [-0.2, 0.9, 0.0]], np.float32)
    field = rng.uniform(-0.2, 0.2, size=(3, 3, 2)).astype(np.float32)
    params = np.concatenate([theta.reshape(-1), field.reshape(-1)])
    out = warp(image, chain, params)
    pixels = references.identity_grid((8, 9), False)
    moved = pixels + references.bilinear_sample(field, pixels, "border")
    points = (moved @ theta[:, :2].T + theta[:, 2]).astype(np.float32)
    expected = references.bilinear_sample(image, points)
    np.testing.assert_allclose(out, expected, atol=1e-5)
    chex.assert_trees_all_close(out, sample(image, points), atol=1e-5)


def test_derivatives_in_parameters_and_points(x64, rng):
    family = Displacement((3, 2))
    points = rng.uniform(-0.9, 0.9, size=(6, 2))
    check_derivatives(family.apply, [draw(rng, family, (), float), points])


@pytest.mark.parametrize("family", FIELDS, ids=str)
def test_empty_batches(family):
    params, size = jnp.zeros((0, family.num_params)), size_for(family)
    assert family.grid(params, size).shape == (0, *size, family.ndim)
    points = jnp.zeros((0, 7, family.ndim))
    assert family.apply(params, points).shape == points.shape


def test_vmap_over_fields_at_shared_points(rng):
    family = Displacement((3, 2))
    params, points = draw(rng, family, (4,)), jnp.array([[0.1, 0.2], [jnp.inf, 0.0]])
    out = jax.vmap(family.apply, (0, None))(params, points)
    chex.assert_trees_all_close(out, family.apply(params, points))
    assert jnp.isinf(out[:, 1]).all()


def test_invalid_lattices_are_refused():
    for shape in ((0, 3), (4,), (2, 2, 2, 2)):
        with pytest.raises(ValueError, match=r"shape must be .* of the lattice"):
            Displacement(shape)
    with pytest.raises(TypeError, match=r"shape must be .* of the lattice"):
        Displacement(3)
    field = Displacement((2, 3))
    with pytest.raises(ValueError, match="size must be"):
        field.grid(field.identity, (4, 4, 4))
    with pytest.raises(ValueError, match=r"points must be \(\*batch, N, 2\)"):
        field.apply(field.identity, jnp.zeros((4, 3)))

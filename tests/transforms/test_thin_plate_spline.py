"""ThinPlateSpline: parameters are control points."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from families import SPLINES, size_for

from stn_jax import tps_grid
from stn_jax.transforms import ThinPlateSpline

pytestmark = pytest.mark.usefixtures("strict")


def test_spline_parameters_are_points_in_lattice_order(rng):
    lattice = np.array([(x, y) for y in (-1, 1) for x in np.linspace(-1, 1, 5)])
    points = (lattice + 0.1 * rng.normal(size=(10, 2))).astype(np.float32)
    family = ThinPlateSpline((2, 5), 0.2)
    grid = family.grid(points.reshape(-1), (3, 4))
    options = {"target_points": lattice, "regularization": 0.2}
    expected = tps_grid(points, (3, 4), **options)
    chex.assert_trees_all_close(grid, expected, atol=1e-6)


@pytest.mark.parametrize("family", SPLINES, ids=str)
def test_a_spline_takes_its_lattice_to_its_control_points(rng, family):
    lattice = np.asarray(family.identity).reshape(-1, family.ndim)
    control = lattice + 0.3 * rng.normal(size=lattice.shape).astype(np.float32)
    out = family.apply(control.reshape(-1), lattice)
    np.testing.assert_allclose(out, control, atol=5e-6)


def test_a_learnt_regularization(rng):
    """A ridge that is traced gives the points of one that is known."""
    lattice = np.asarray(ThinPlateSpline((3, 3)).identity)
    params = lattice + 0.2 * rng.normal(size=18).astype(np.float32)
    points = jnp.array([[0.3, 0.2], [-0.5, 0.9]])

    def moved(regularization):
        return ThinPlateSpline((3, 3), regularization).apply(params, points)

    out, slope = jax.jit(jax.value_and_grad(lambda r: moved(r).sum()))(0.1)
    np.testing.assert_allclose(out, moved(0.1).sum(), atol=1e-5)
    difference = (moved(0.11).sum() - moved(0.09).sum()) / 0.02
    np.testing.assert_allclose(slope, difference, rtol=0.02)


@pytest.mark.parametrize("family", SPLINES, ids=str)
def test_empty_batches(family):
    params, size = jnp.zeros((0, family.num_params)), size_for(family)
    assert family.grid(params, size).shape == (0, *size, family.ndim)
    points = jnp.zeros((0, 7, family.ndim))
    assert family.apply(params, points).shape == points.shape

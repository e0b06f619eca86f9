"""ThinPlateSpline: parameters are control points."""

import chex
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


@pytest.mark.parametrize("family", SPLINES, ids=str)
def test_empty_batches(family):
    params, size = jnp.zeros((0, family.num_params)), size_for(family)
    assert family.grid(params, size).shape == (0, *size, family.ndim)
    points = jnp.zeros((0, 7, family.ndim))
    assert family.apply(params, points).shape == points.shape

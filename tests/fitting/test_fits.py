"""All fits: as grids, over leading axes, and their errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fits import FITS

from stn_jax import (
    fit_affine,
    fit_projective,
    fit_rank,
    fit_similarity,
    fit_tps,
    projective_grid,
    tps_grid,
)

pytestmark = pytest.mark.usefixtures("strict")


def test_the_grid_of_a_fit_samples_the_source_at_the_target(rng):
    """The grid maps each target point to its source point."""
    target = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1.0]], np.float32)
    source = target * 0.6 + 0.1 * rng.normal(size=(4, 2)).astype(np.float32)
    corners = (np.array([0, 0, 4, 4]), np.array([0, 4, 4, 0]))
    theta = fit_projective(source, target)
    grid = projective_grid(theta, (5, 5), align_corners=True)
    np.testing.assert_allclose(grid[corners], source, atol=1e-5)
    grid = tps_grid(fit_tps(source, target), (5, 5), align_corners=True)
    np.testing.assert_allclose(grid[corners], source, atol=1e-4)


@pytest.mark.parametrize(
    "fit",
    [
        fit_affine,
        fit_tps,
        pytest.param(fit_similarity, marks=pytest.mark.slow),
        pytest.param(fit_projective, marks=pytest.mark.slow),
    ],
    ids=lambda f: f.__name__,
)
def test_leading_axes_broadcast(rng, fit):
    source = rng.normal(size=(3, 1, 6, 2)).astype(np.float32)
    target = rng.normal(size=(2, 6, 2)).astype(np.float32)
    weights = rng.uniform(0.5, 1, size=(3, 1, 6)).astype(np.float32)
    out = jax.jit(lambda s, t, w: fit(s, t, weights=w))(source, target, weights)
    assert out.shape[:2] == (3, 2)
    one = fit(source[2, 0], target[1], weights=weights[2, 0])
    np.testing.assert_allclose(out[2, 1], one, rtol=1e-3, atol=1e-3)


# errors


@pytest.mark.parametrize("fit", [*FITS.values(), fit_tps], ids=lambda f: f.__name__)
def test_points_that_cannot_be_fitted_are_refused(fit):
    points = jnp.zeros((5, 2))
    for source, target, options, message in [
        (
            jnp.zeros((4, 2)),
            points,
            {},
            r"equally many points.* shapes \(4, 2\) and",
        ),
        (jnp.zeros((5, 3)), points, {}, r"got shapes \(5, 3\) and \(5, 2\)"),
        (jnp.zeros((0, 2)), jnp.zeros((0, 2)), {}, "one or more"),
        (jnp.zeros(2), points, {}, r"source must be \(\*batch, N, 2 or 3\)"),
        (points, points, {"weights": jnp.ones(4)}, r"weights must be \(\*batch, 5\)"),
        (points, points, {"regularization": -1.0}, "regularization must be 0 or more"),
    ]:
        with pytest.raises(ValueError, match=message):
            fit(source, target, **options)


def test_unknown_families_and_lattices():
    points = jnp.zeros((5, 2))
    with pytest.raises(
        ValueError, match="family must be one of 'similarity', 'affine'"
    ):
        fit_rank(points, points, family="tps")
    with pytest.raises(ValueError, match="lattice must be 2 positive integers"):
        fit_tps(points, points, lattice=(2, 2, 2))

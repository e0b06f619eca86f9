"""fit_tps, against SciPy and NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fits import both_dims, line
from gradients import check_derivatives
from scipy.interpolate import RBFInterpolator

from stn_jax import control_lattice, fit_tps
from stn_jax.transforms import ThinPlateSpline

pytestmark = pytest.mark.usefixtures("strict")


@both_dims
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_tps_is_scipys_spline_at_the_lattice(x64, rng, ndim, smoothing):
    source, target = rng.uniform(-1, 1, size=(2, 14, ndim))
    weights = rng.uniform(0.5, 2, size=14)
    shape = (3, 2, 4)[:ndim]
    found = fit_tps(
        source, target, weights=weights, regularization=smoothing, lattice=shape
    )
    spline = RBFInterpolator(
        target,
        source,
        kernel="thin_plate_spline",
        smoothing=smoothing / weights,
        degree=1,
    )
    expected = spline(np.asarray(control_lattice(shape)).astype(float))
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_tps_leaves_out_points_of_weight_zero(x64, rng):
    source, target = rng.uniform(-1, 1, size=(2, 8, 2))
    weights = np.array([1.0, 1, 1, 1, 1, 1, 0, 0])
    found = fit_tps(source, target, weights=weights)
    np.testing.assert_allclose(found, fit_tps(source[:6], target[:6]), atol=1e-9)
    twice = fit_tps(np.tile(source[:6], (2, 1)), np.tile(target[:6], (2, 1)))
    np.testing.assert_allclose(twice, fit_tps(source[:6], target[:6]), atol=1e-9)


def test_tps_on_the_lattice_gives_the_control_points_back(rng):
    lattice = np.asarray(control_lattice((4, 4)))
    control = lattice + 0.2 * rng.normal(size=(16, 2)).astype(np.float32)
    np.testing.assert_allclose(fit_tps(control, lattice), control, atol=2e-5)


def test_a_spline_through_degenerate_points(x64):
    shift = np.array([[0.25, 0.0]])
    target = np.stack([np.full((5, 2), 0.3), line(2, 5)])
    source = target + np.broadcast_to(shift, target.shape)

    def fitted(source, target):
        control = fit_tps(source, target)
        return (control**2).sum(), control

    slope, control = jax.jit(jax.grad(fitted, 1, has_aux=True))(source, target)
    assert jnp.isfinite(slope).all()
    moved = np.asarray(control_lattice((4, 4)))[5:11] + shift  # around the points
    for one in control:
        np.testing.assert_allclose(one[5:11], moved, atol=0.1)


@pytest.mark.slow
def test_gradients_of_splines(x64, rng):
    source, target = rng.uniform(-1, 1, size=(2, 7, 2))
    check_derivatives(
        lambda s, t, w, r: fit_tps(s, t, weights=w, regularization=r, lattice=(2, 2)),
        [source, target, rng.uniform(0.5, 1, size=7), np.float64(0.1)],
    )


@pytest.mark.parametrize(
    ("count", "ndim"), [(1, 2), (2, 2), (1, 3), (2, 3), (3, 3)], ids=str
)
@pytest.mark.parametrize("batch", [(), (2,)], ids=str)
def test_fewer_points_than_an_affine_map_needs(x64, rng, count, ndim, batch):
    """The displacement is the least affine map through the points, in NumPy: constant
    across the line or plane that they span. The points themselves are mapped exactly.
    """
    source, target = rng.uniform(-1, 1, size=(2, *batch, count, ndim))
    lattice = np.asarray(control_lattice((4,) * ndim)).astype(float)
    found = fit_tps(source, target)
    assert found.shape == (*batch, *lattice.shape)
    for index in np.ndindex(*batch):
        s, t = source[index], target[index]
        moved, center = s - t, t.mean(axis=0)
        slope = np.linalg.pinv(t - center) @ (moved - moved.mean(axis=0))
        expected = lattice + moved.mean(axis=0) + (lattice - center) @ slope
        np.testing.assert_allclose(found[index], expected, atol=1e-9)
        spline = ThinPlateSpline((4,) * ndim)
        mapped = spline.apply(found[index].reshape(-1), t)
        np.testing.assert_allclose(mapped, s, atol=1e-9)


def test_one_point_in_single_precision_with_finite_gradients():
    point = jnp.array([[0.3, -0.2]])
    shift = jnp.array([[0.25, 0.5]])

    def fitted(source, target):
        control = fit_tps(source, target)
        return (control**2).sum(), control

    slopes, control = jax.grad(fitted, (0, 1), has_aux=True)(point + shift, point)
    expected = np.asarray(control_lattice((4, 4))) + np.asarray(shift)
    np.testing.assert_allclose(control, expected, atol=1e-5)
    np.testing.assert_allclose(slopes[0], 2 * expected.sum(0, keepdims=True), rtol=1e-4)
    np.testing.assert_allclose(slopes[1], -slopes[0], rtol=1e-4)

"""Thin plate spline grids, against SciPy."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references
from gradients import check_derivatives
from scipy.interpolate import RBFInterpolator

from stn_jax import control_lattice, identity_grid, tps_grid

pytestmark = pytest.mark.usefixtures("strict")


def scipy_grid(control, target, size, smoothing=0.0, align_corners=False):
    pixels = references.identity_grid(size, align_corners).reshape(-1, len(size))
    spline = RBFInterpolator(
        target, control, kernel="thin_plate_spline", smoothing=smoothing, degree=1
    )
    return spline(pixels).reshape(*size, len(size))


def lattice(n, m):
    return np.array(
        [(x, y) for y in np.linspace(-1, 1, n) for x in np.linspace(-1, 1, m)]
    )


def test_the_lattice_is_row_major_with_x_fastest():
    np.testing.assert_allclose(control_lattice((3, 4)), lattice(3, 4), atol=1e-7)
    np.testing.assert_array_equal(control_lattice((1, 2)), [[-1, 0], [1, 0]])
    assert control_lattice((2, 2), dtype=jnp.float16).dtype == jnp.float16


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_square_lattice_agrees_with_scipy(x64, rng, smoothing, align_corners):
    control = lattice(4, 4) + 0.3 * rng.normal(size=(16, 2))
    grid = tps_grid(
        control, (5, 9), regularization=smoothing, align_corners=align_corners
    )
    expected = scipy_grid(control, lattice(4, 4), (5, 9), smoothing, align_corners)
    np.testing.assert_allclose(grid, expected, atol=1e-10)


@pytest.mark.parametrize("traced", [False, True])
def test_free_points_agree_with_scipy(x64, rng, traced):
    target, control = rng.uniform(-1, 1, size=(2, 7, 2))

    def grid(target):
        return tps_grid(control, (4, 6), target_points=target, regularization=0.1)

    out = jax.jit(grid)(target) if traced else grid(target)
    np.testing.assert_allclose(out, scipy_grid(control, target, (4, 6), 0.1), atol=1e-9)


def test_single_precision_is_close_to_scipy(rng):
    control = lattice(4, 4) + 0.3 * rng.normal(size=(16, 2))
    grid = tps_grid(control.astype(np.float32), (28, 28))
    expected = scipy_grid(control, lattice(4, 4), (28, 28))
    np.testing.assert_allclose(grid, expected, atol=5e-6)


def test_control_points_are_interpolated_where_they_are_not_affine(rng):
    """An identity test cannot see a dead kernel; this one can."""
    control = lattice(3, 3) + 0.5 * rng.normal(size=(9, 2))
    grid = tps_grid(control.astype(np.float32), (3, 3), align_corners=True)
    np.testing.assert_allclose(grid.reshape(-1, 2), control, atol=1e-5)


@pytest.mark.parametrize("align_corners", [False, True])
def test_the_lattice_itself_is_the_identity(align_corners):
    grid = tps_grid(control_lattice((4, 4)), (6, 5), align_corners=align_corners)
    expected = identity_grid((6, 5), align_corners=align_corners)
    chex.assert_trees_all_close(grid, expected, atol=2e-6)


@pytest.mark.parametrize(
    ("batch", "target_batch"), [((), ()), ((1,), ()), ((3, 2), (2,)), ((), (3,))]
)
def test_leading_axes_broadcast(rng, batch, target_batch):
    control = rng.normal(size=(*batch, 9, 2)).astype(np.float32)
    target = lattice(3, 3) + 0.1 * rng.normal(size=(*target_batch, 9, 2))
    grid = tps_grid(control, (4, 5), target_points=target)
    shape = np.broadcast_shapes(batch, target_batch)
    assert grid.shape == (*shape, 4, 5, 2)
    control = np.broadcast_to(control, (*shape, 9, 2))
    target = np.broadcast_to(target, (*shape, 9, 2))
    for index in np.ndindex(*shape):
        expected = scipy_grid(control[index], target[index], (4, 5))
        np.testing.assert_allclose(grid[index], expected, atol=1e-4)


def test_the_lattice_is_solved_when_tracing():
    program = str(jax.make_jaxpr(lambda c: tps_grid(c, (8, 8)))(jnp.zeros((5, 16, 2))))
    assert "lu" not in program
    assert "log" not in program
    assert "precision=(Precision.HIGHEST" in program


def test_gradients(x64, rng):
    control = lattice(3, 3) + 0.2 * rng.normal(size=(9, 2))
    free = lattice(3, 3) + 0.1 * rng.normal(size=(9, 2))

    def grid(control, targets, ridge):
        return tps_grid(control, (3, 4), target_points=targets, regularization=ridge)

    check_derivatives(lambda control: tps_grid(control, (3, 4)), [control])
    check_derivatives(grid, [control, free, np.float64(0.1)])


def test_no_nan_where_a_pixel_is_a_target_point():
    """There r = 0: without a second where the gradient of r^2 log r^2 is NaN."""
    points = control_lattice((3, 3))

    def total(targets):
        return tps_grid(points, (3, 3), target_points=targets, align_corners=True)[
            0, 1
        ].sum()

    gradient = jax.grad(total)(points)
    assert jnp.isfinite(gradient).all()
    assert jnp.abs(gradient).max() > 0.1


@pytest.mark.parametrize(
    ("points", "options", "message"),
    [
        (jnp.zeros((5, 2)), {}, r"n \* n control points.*got 5"),
        (jnp.zeros((5, 3)), {}, r"control_points must be .*got shape \(5, 3\)"),
        (jnp.zeros(8), {}, r"control_points must be .*got shape \(8,\)"),
        (jnp.zeros((2, 2)), {}, "at least 3 points"),
        (jnp.zeros((4, 2)), {"target_points": np.zeros((3, 2))}, "as many as"),
        (jnp.zeros((4, 2)), {"target_points": np.zeros((4, 2))}, "must not repeat"),
        (jnp.zeros((3, 2)), {"target_points": np.eye(3, 2) * 0}, "must not repeat"),
    ],
)
def test_bad_points(points, options, message):
    with pytest.raises(ValueError, match=message):
        tps_grid(points, (3, 3), **options)


def test_points_on_a_line_determine_no_spline():
    line = np.stack([np.linspace(-1, 1, 5), np.linspace(-1, 1, 5)], axis=-1)
    with pytest.raises(ValueError, match="all lie on a line"):
        tps_grid(jnp.zeros((5, 2)), (3, 3), target_points=line)


@pytest.mark.parametrize("ridge", [-0.1, np.nan])
def test_a_ridge_is_not_negative(ridge):
    with pytest.raises(ValueError, match="regularization must be 0 or more; got"):
        tps_grid(control_lattice((2, 2)), (3, 3), regularization=ridge)


def test_leading_axes_that_do_not_broadcast():
    target = np.broadcast_to(lattice(2, 2), (2, 4, 2))
    with pytest.raises(
        ValueError, match=r"\(2,\) of target_points and \(3,\) of control"
    ):
        tps_grid(jnp.zeros((3, 4, 2)), (3, 3), target_points=target)


def test_volumes_agree_with_scipy(x64, rng):
    """With the same kernel as in two dimensions, on a lattice and on free points."""
    size = (3, 4, 2)
    cube = [(x, y, z) for z in (-1, 0, 1) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    np.testing.assert_array_equal(control_lattice((3, 3, 3)), np.array(cube))
    control = np.array(cube) + 0.3 * rng.normal(size=(27, 3))
    expected = scipy_grid(control, np.array(cube), size)
    np.testing.assert_allclose(tps_grid(control, size), expected, atol=1e-10)
    target, control = rng.uniform(-1, 1, size=(2, 9, 3))
    grid = tps_grid(control, size, target_points=target, regularization=0.1)
    np.testing.assert_allclose(grid, scipy_grid(control, target, size, 0.1), atol=1e-9)


def test_volumes_need_a_cubic_lattice_and_points_off_a_plane():
    with pytest.raises(ValueError, match=r"n\*\*3, a cubic lattice; got 9"):
        tps_grid(jnp.zeros((9, 3)), (3, 3, 3))
    plane = np.array([(x, y, 0) for y in (-1, 1) for x in (-1, 0, 1)])
    with pytest.raises(ValueError, match="on a plane"):
        tps_grid(jnp.zeros((6, 3)), (3, 3, 3), target_points=plane)
    with pytest.raises(ValueError, match=r"control_points must be \(\*batch, N, 3\)"):
        tps_grid(control_lattice((2, 2)), (3, 3, 3))


@pytest.mark.parametrize("batch", [(0,), (2, 0)])
def test_empty_batches(batch):
    grid = tps_grid(jnp.zeros((*batch, 9, 2)), (4, 5))
    assert grid.shape == (*batch, 4, 5, 2)
    target = jnp.zeros((*batch, 9, 2))
    traced = jax.jit(lambda t: tps_grid(jnp.zeros((9, 2)), (4, 5), target_points=t))
    assert traced(target).shape == (*batch, 4, 5, 2)

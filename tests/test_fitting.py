"""Fits: against SciPy and NumPy, where points degenerate, and their derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradients import check_derivatives
from scipy.interpolate import RBFInterpolator
from scipy.optimize import least_squares as scipy_least_squares
from scipy.spatial.transform import Rotation

from stn_jax import (
    control_lattice,
    fit_affine,
    fit_projective,
    fit_rank,
    fit_similarity,
    fit_tps,
    projective_grid,
    tps_grid,
)

pytestmark = pytest.mark.usefixtures("strict")
FITS = {
    "affine": fit_affine,
    "similarity": fit_similarity,
    "projective": fit_projective,
}
FULL = {
    ("similarity", 2): 4,
    ("similarity", 3): 7,
    ("affine", 2): 6,
    ("affine", 3): 12,
    ("projective", 2): 8,
    ("projective", 3): 15,
}
each_fit = pytest.mark.parametrize("family", FITS)
both_dims = pytest.mark.parametrize("ndim", [2, 3])
volumes_slow = pytest.mark.parametrize(
    "ndim", [2, pytest.param(3, marks=pytest.mark.slow)]
)


def act(theta, points):
    n = points.shape[-1]
    full = np.eye(n + 1)
    full[: len(theta)] = theta
    moved = np.concatenate([points, np.ones((*points.shape[:-1], 1))], -1) @ full.T
    return moved[..., :-1] / moved[..., -1:]


def truth(rng, family, ndim):
    """Some transformation of the family, away from the identity."""
    if family == "similarity":
        turn = rng.normal(size=3)
        if ndim == 2:
            turn[:2] = 0
        rotation = Rotation.from_rotvec(turn).as_matrix()
        rotation = rotation[:ndim, :ndim]
        return np.concatenate([0.7 * rotation, rng.normal(size=(ndim, 1))], axis=1)
    theta = np.eye(ndim, ndim + 1) + 0.4 * rng.normal(size=(ndim, ndim + 1))
    if family == "projective":
        last = np.append(0.2 * rng.uniform(-1, 1, size=ndim), 1)
        theta = np.concatenate([theta, last[None]])
    return theta


# values


@each_fit
@both_dims
@pytest.mark.parametrize("scale", [1.0, 500.0])
def test_exact_points_give_the_transformation_itself(x64, rng, family, ndim, scale):
    """Also far from the origin, as in pixels, and more points than are needed."""
    theta = truth(rng, family, ndim)
    target = rng.uniform(-1, 1, size=(9, ndim))
    source = act(theta, target)
    found = FITS[family](scale * source + scale, scale * target - 2 * scale)
    moved = act(np.asarray(found), scale * target - 2 * scale)
    np.testing.assert_allclose(moved, scale * source + scale, rtol=1e-9)


@each_fit
@volumes_slow
def test_single_precision(rng, family, ndim):
    theta = truth(rng, family, ndim)
    target = rng.uniform(-1, 1, size=(12, ndim))
    source = act(theta, target)
    found = FITS[family](source.astype(np.float32), target.astype(np.float32))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, theta, atol=1e-5)


@both_dims
def test_affine_is_numpys_least_squares(x64, rng, ndim):
    source, target = rng.normal(size=(2, 8, ndim))
    weights = rng.uniform(0.1, 2, size=8)
    weights[3] = 0
    rows = np.concatenate([target, np.ones((8, 1))], axis=1)
    root = np.sqrt(weights)[:, None]
    expected = np.linalg.lstsq(root * rows, root * source, rcond=None)[0].T
    found = fit_affine(source, target, weights=weights)
    np.testing.assert_allclose(found, expected, atol=1e-12)


@both_dims
def test_similarity_is_the_least_of_all_similarities(x64, rng, ndim):
    """Against SciPy's general optimizer, from several starts; no reflections."""
    source, target = rng.normal(size=(2, 7, ndim))
    weights = rng.uniform(0.1, 2, size=7)

    def residuals(x):
        turn = np.append([0, 0], x[1]) if ndim == 2 else x[1:4]
        rotation = Rotation.from_rotvec(turn).as_matrix()[:ndim, :ndim]
        moved = x[0] * target @ rotation.T + x[-ndim:]
        return (np.sqrt(weights)[:, None] * (moved - source)).ravel()

    starts = rng.normal(size=(12, 1 + (1 if ndim == 2 else 3) + ndim))
    starts[:, 0] = np.abs(starts[:, 0])
    best = min(scipy_least_squares(residuals, x).cost for x in starts)
    found = np.asarray(fit_similarity(source, target, weights=weights))
    moved = act(found, target)
    cost = 0.5 * (weights[:, None] * (moved - source) ** 2).sum()
    np.testing.assert_allclose(cost, best, rtol=1e-8)
    linear = found[:, :ndim]
    assert np.linalg.det(linear) > 0
    gram = linear.T @ linear
    np.testing.assert_allclose(gram, gram[0, 0] * np.eye(ndim), atol=1e-12)


def test_a_mirrored_cloud_is_turned_not_mirrored(x64, rng):
    target = rng.normal(size=(6, 3))
    found = np.asarray(fit_similarity(target * np.array([[1, 1, -1.0]]), target))
    assert np.linalg.det(found[:, :3]) > 0


def test_projective_minimizes_the_algebraic_error(x64, rng):
    source, target = rng.uniform(-1, 1, size=(2, 10, 2))
    source = target + 0.1 * source
    found = np.asarray(fit_projective(source, target))

    def frame(points):
        center = points.mean(axis=0)
        return center, np.sqrt(((points - center) ** 2).sum(axis=1).mean())

    (m_s, k_s), (m_t, k_t) = frame(source), frame(target)
    s, t = (source - m_s) / k_s, (target - m_t) / k_t
    rows, values = [], []
    for (x, y), (u, v) in zip(t, s, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    entries = np.linalg.lstsq(np.array(rows), np.array(values), rcond=None)[0]
    matrix = np.append(entries, 1).reshape(3, 3)
    out = np.array([[k_s, 0, m_s[0]], [0, k_s, m_s[1]], [0, 0, 1]])
    into = np.linalg.inv([[k_t, 0, m_t[0]], [0, k_t, m_t[1]], [0, 0, 1]])
    expected = out @ matrix @ into
    np.testing.assert_allclose(found, expected / expected[2, 2], atol=1e-10)


@both_dims
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_tps_is_scipys_spline_read_on_the_lattice(x64, rng, ndim, smoothing):
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


def test_what_is_fitted_warps(rng):
    """The grid of a fit reads the source where the target is."""
    target = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1.0]], np.float32)
    source = target * 0.6 + 0.1 * rng.normal(size=(4, 2)).astype(np.float32)
    corners = (np.array([0, 0, 4, 4]), np.array([0, 4, 4, 0]))
    theta = fit_projective(source, target)
    grid = projective_grid(theta, (5, 5), align_corners=True)
    np.testing.assert_allclose(grid[corners], source, atol=1e-5)
    grid = tps_grid(fit_tps(source, target), (5, 5), align_corners=True)
    np.testing.assert_allclose(grid[corners], source, atol=1e-4)


# regularization


@both_dims
def test_the_ridge_of_the_affine_fit(x64, rng, ndim):
    source, target = rng.normal(size=(2, 8, ndim))
    source += 1.0
    s, t = source - source.mean(axis=0), target - target.mean(axis=0)
    spread = (t**2).sum(axis=1).mean()
    products, squares = s.T @ t / 8 / spread, t.T @ t / 8 / spread
    identity = np.eye(ndim)
    expected = (products + 0.3 * identity) @ np.linalg.inv(squares + 0.3 * identity)
    found = np.asarray(fit_affine(source, target, regularization=0.3))
    np.testing.assert_allclose(found[:, :ndim], expected, atol=1e-12)
    translation = source.mean(axis=0) - expected @ target.mean(axis=0)
    np.testing.assert_allclose(found[:, ndim], translation, atol=1e-12)


@each_fit
@both_dims
def test_a_strong_ridge_leaves_a_translation(x64, rng, family, ndim):
    source, target = rng.normal(size=(2, 8, ndim))
    found = np.asarray(FITS[family](source, target, regularization=1e9))
    found = found / (found[-1, -1] if family == "projective" else 1)
    shift = (source - target).mean(axis=0)
    expected = np.concatenate([np.eye(ndim), shift[:, None]], axis=1)
    np.testing.assert_allclose(found[:ndim], expected, atol=1e-6)


# degenerate points


def line(ndim, count):
    x = np.linspace(-0.8, 1, count)
    return np.stack([x, *[0.3 * x + 0.1] * (ndim - 1)], axis=1)


@each_fit
@volumes_slow
def test_degenerate_points_give_something_defined(rng, family, ndim):
    """The best there is, the nearest to a translation; finite slopes; and a way to
    notice. In single precision, where no mean and no line is exact.
    """
    cases = ["same", "line", "weightless"]
    same, free = np.full((6, ndim), 0.3), rng.normal(size=(6, ndim))
    target = np.stack([same, line(ndim, 6), free]).astype(np.float32)
    weights = np.ones((3, 6), np.float32)
    weights[2] = 0
    shift = np.array([0.5, -0.25, 0.125], np.float32)[:ndim]
    source = target + np.broadcast_to(shift, target.shape)

    def fitted(source, target, weights):
        theta = FITS[family](source, target, weights=weights)
        return (theta**2).sum(), theta

    gradient = jax.jit(jax.grad(fitted, (0, 1), has_aux=True))
    slopes, theta = gradient(source, target, weights)
    assert all(jnp.isfinite(slope).all() for slope in slopes)
    theta = np.asarray(theta)[:, :ndim]
    expected = np.concatenate([np.eye(ndim), shift[:, None]], axis=1)
    np.testing.assert_allclose(theta[0], expected, atol=3e-5)
    np.testing.assert_allclose(theta[1], expected, atol=3e-5)
    np.testing.assert_allclose(theta[2], np.eye(ndim, ndim + 1), atol=3e-5)
    rank = fit_rank(source, target, family=family, weights=weights)
    for name, known in zip(cases, rank, strict=True):
        is_known = name == "line" and (family, ndim) == ("similarity", 2)
        assert (known == FULL[family, ndim]) == is_known


@each_fit
def test_one_point_gives_a_translation(family):
    point = np.array([[0.3, -0.2]], np.float32)
    theta = FITS[family](point + np.float32(0.5), point)
    expected = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    np.testing.assert_allclose(theta, expected[: len(theta)], atol=1e-6)


@each_fit
@both_dims
def test_points_in_general_position_determine_everything(rng, family, ndim):
    target = rng.normal(size=(3, 9, ndim)).astype(np.float32)
    source = target + 0.1 * rng.normal(size=target.shape).astype(np.float32)
    rank = fit_rank(source, target, family=family)
    np.testing.assert_array_equal(rank, np.full(3, FULL[family, ndim]))
    enough = ndim + 1 + (family == "projective")
    rank = fit_rank(source[:, :enough], target[:, :enough], family=family)
    np.testing.assert_array_equal(rank, np.full(3, FULL[family, ndim]))


def test_three_of_four_points_on_a_line_leave_a_homography_open(rng):
    target = np.array([[-1, 0], [0, 0], [1, 0], [0, 1.0]], np.float32)
    assert fit_rank(target, target, family="projective") < 8
    theta = fit_projective(target + np.float32(0.5), target)
    expected = np.eye(3)
    expected[:2, 2] = 0.5
    np.testing.assert_allclose(theta, expected, atol=1e-4)


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


# gradients, batches


@pytest.mark.parametrize(
    ("family", "ndim"),
    [
        ("similarity", 2),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (("similarity", 3), ("affine", 3), ("projective", 2))
        ),
    ],
)
def test_gradients(x64, rng, family, ndim):
    """Also where the points are a regular lattice, whose singular values repeat."""
    lattice = np.asarray(control_lattice((3,) * ndim)).astype(float)
    free = lattice + 0.1 * rng.normal(size=lattice.shape)
    weights = rng.uniform(0.5, 1, size=len(lattice))
    ones = np.ones(len(lattice))
    check_derivatives(
        lambda source, target, weights: FITS[family](source, target, weights=weights),
        [free, lattice, weights],
        [lattice, lattice, ones],
        step=1e-4,
        rtol=1e-5,
    )


@pytest.mark.slow
def test_gradients_of_splines(x64, rng):
    source, target = rng.uniform(-1, 1, size=(2, 7, 2))
    check_derivatives(
        lambda s, t, w, r: fit_tps(s, t, weights=w, regularization=r, lattice=(2, 2)),
        [source, target, rng.uniform(0.5, 1, size=7), np.float64(0.1)],
    )


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


# doors


@pytest.mark.parametrize("fit", [*FITS.values(), fit_tps], ids=lambda f: f.__name__)
def test_what_cannot_be_fitted(fit):
    points = jnp.zeros((5, 2))
    for source, target, options, message in [
        (jnp.zeros((4, 2)), points, {}, r"as many points.* got shapes \(4, 2\) and"),
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

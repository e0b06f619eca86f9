"""fit_affine, fit_similarity and fit_projective, against NumPy and SciPy."""

import jax.numpy as jnp
import numpy as np
import pytest
from fits import FITS, act, both_dims, each_fit, truth, volumes_slow
from gradients import check_derivatives
from scipy.optimize import least_squares as scipy_least_squares
from scipy.spatial.transform import Rotation

from stn_jax import control_lattice, fit_affine, fit_projective, fit_similarity

pytestmark = pytest.mark.usefixtures("strict")


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


def test_a_mirrored_cloud_is_rotated_not_mirrored(x64, rng):
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


# gradients


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

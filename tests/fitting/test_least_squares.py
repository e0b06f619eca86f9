"""Points that do not determine a transformation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fits import FITS, FULL, both_dims, each_fit, line, volumes_slow

from stn_jax import fit_projective, fit_rank

pytestmark = pytest.mark.usefixtures("strict")


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

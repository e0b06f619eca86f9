"""`invert_points`: the inverse of any family at points."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references
from families import draw
from gradients import check_derivatives
from scipy.interpolate import RBFInterpolator

from stn_jax import invert_points, warp
from stn_jax.transforms import (
    Affine,
    Attention,
    Chain,
    Displacement,
    Projective,
    Rigid,
    ThinPlateSpline,
)

pytestmark = pytest.mark.usefixtures("strict")
SLOW = pytest.mark.slow


def spline_map(params, points):
    """A spline through a 3x3 lattice, by SciPy."""
    lattice = np.array([(x, y) for y in (-1, 0, 1) for x in (-1, 0, 1)], float)
    control = params.reshape(-1, 2)
    return RBFInterpolator(lattice, control, kernel="thin_plate_spline")(points)


def field_map(params, points):
    """A field on a 3x4 lattice, by plain loops."""
    field = params.reshape(3, 4, 2)
    return points + references.bilinear_sample(field, points[None], "border")[0]


def affine_map(params, points):
    theta = params.reshape(2, 3)
    return points @ theta[:, :2].T + theta[:, 2]


def volume_map(params, points):
    field = params.reshape(2, 2, 3, 3)
    sampled = references.bilinear_sample(field, points[None, None], "border")
    return points + sampled[0, 0]


CASES = {
    "spline": (ThinPlateSpline((3, 3)), spline_map),
    "field": (Displacement((3, 4)), field_map),
    "chain": (
        Chain(Affine(), ThinPlateSpline((3, 3))),
        lambda params, points: affine_map(params[:6], spline_map(params[6:], points)),
    ),
    "volume": (Displacement((2, 2, 3)), volume_map),
}


@pytest.mark.parametrize(
    ("name", "dtype"), [("chain", np.float32), *((name, np.float64) for name in CASES)]
)
def test_the_inverse_of_independent_maps(x64, rng, name, dtype):
    """Points are mapped by SciPy or loops, and found again."""
    family, mapped = CASES[name]
    params = draw(rng, family, (), float)
    points = rng.uniform(-1.2, 1.2, size=(20, family.ndim))
    images = mapped(params, points)
    assert np.abs(images - points).max() > 0.1
    options = {"tolerance": 1e-5 if dtype == np.float32 else 1e-12}
    found, is_found = invert_points(
        family, params.astype(dtype), images.astype(dtype), **options
    )
    assert found.dtype == dtype
    assert is_found.all()
    atol = 1e-5 if dtype == np.float32 else 1e-11
    np.testing.assert_allclose(found, points, atol=atol)


@pytest.mark.parametrize(
    "family",
    [Affine(), *(pytest.param(f, marks=SLOW) for f in (Affine(3), Projective()))],
    ids=str,
)
def test_families_with_a_formula(x64, rng, family):
    """Values and all derivatives in parameters and points."""
    params = draw(rng, family, (), float)
    points = rng.uniform(-1, 1, size=(6, family.ndim))
    bar = rng.normal(size=points.shape)

    def by_formula(params, points):
        return family.apply(family.inverse(params), points)

    def by_iteration(params, points):
        found, is_found = invert_points(family, params, points, tolerance=1e-12)
        return found, is_found

    @partial(jax.jit, static_argnums=0)
    def values_slopes_and_curvatures(function, *at):
        def total(*at):
            return (bar * function(*at)).sum()

        along = jax.tree.map(jnp.cos, at)
        slope = jax.grad(total, (0, 1))
        return function(*at), *jax.jvp(slope, at, along)

    first = lambda *at: by_iteration(*at)[0]  # noqa: E731
    ours = values_slopes_and_curvatures(first, params, points)
    expected = values_slopes_and_curvatures(by_formula, params, points)
    assert by_iteration(params, points)[1].all()
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-9), ours, expected)


@pytest.mark.parametrize(
    "name",
    ["chain", *(pytest.param(n, marks=SLOW) for n in ("spline", "field", "volume"))],
)
def test_derivatives(x64, rng, name):
    """Against finite differences."""
    family, mapped = CASES[name]
    params = draw(rng, family, (), float)
    images = mapped(params, rng.uniform(-0.9, 0.9, size=(4, family.ndim)))
    inverse = lambda *at: invert_points(family, *at, tolerance=1e-12)[0]  # noqa: E731
    check_derivatives(inverse, [params, images])


def test_a_key_point_lands_at_its_inverse(rng):
    """A spot of the image is in the warped image where the inverse says."""
    family = Chain(Rigid(), Displacement((4, 4)))
    params = draw(rng, family)
    key_point = np.array([0.2, -0.3])
    pixels = references.identity_grid((96, 96), False)
    spot = np.exp(-200 * ((pixels - key_point) ** 2).sum(-1, keepdims=True))
    warped = np.asarray(warp(spot.astype(np.float32), family, params))
    peak = np.unravel_index(warped.argmax(), (96, 96))
    found, is_found = invert_points(family, params, key_point[None].astype(np.float32))
    assert is_found.all()
    np.testing.assert_allclose(found[0], pixels[peak], atol=1.5 / 96)


def test_leading_axes_broadcast(rng):
    family = ThinPlateSpline((3, 3))
    params = draw(rng, family, (3, 1))
    points = rng.uniform(-1, 1, size=(2, 5, 2)).astype(np.float32)
    found, is_found = invert_points(family, params, points)
    assert (found.shape, is_found.shape) == ((3, 2, 5, 2), (3, 2, 5))
    invert = partial(invert_points, family)
    mapped = jax.vmap(jax.vmap(invert, (None, 0)), (0, None))(params[:, 0], points)
    np.testing.assert_allclose(found, mapped[0], atol=1e-6)
    back = family.apply(params, found)
    expected = np.broadcast_to(points, back.shape)
    np.testing.assert_allclose(back, expected, atol=1e-5)
    empty, _ = invert_points(family, params[:0], points[:1])
    assert empty.shape == (0, 1, 5, 2)


POOR = jnp.array([[jnp.nan, 0.0], [jnp.inf, 0.1], [0.2, 0.1], [-0.4, 0.3]])


@pytest.mark.parametrize(
    "family",
    [
        Displacement((3, 4)),
        pytest.param(ThinPlateSpline((3, 3)), marks=SLOW),
        pytest.param(Projective(), marks=SLOW),
    ],
    ids=str,
)
def test_points_that_are_not_found_do_not_affect_others(rng, family):
    """Neither values nor gradients; those not found have none."""
    params = draw(rng, family)

    @jax.jit
    @partial(jax.grad, argnums=(0, 1), has_aux=True)
    def slopes_and_values(params, points):
        found, is_found = invert_points(family, params, points)
        return found.sum(), (found, is_found)

    slopes, (found, is_found) = slopes_and_values(params, POOR)
    np.testing.assert_array_equal(is_found, [False, False, True, True])
    good = jnp.concatenate([POOR[2:], POOR[2:]])
    expected_slopes, (expected, are_found) = slopes_and_values(params, good)
    assert are_found.all()
    np.testing.assert_array_equal(found[2:], expected[2:])
    twice, ours = expected_slopes[0], slopes[0]
    np.testing.assert_allclose(2 * ours, twice, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(slopes[1][2:], expected_slopes[1][2:], rtol=1e-5)
    np.testing.assert_array_equal(slopes[1][:2], 0)


def test_what_has_no_inverse_is_marked():
    """A map to one point, which has no inverse where it is hit either."""
    points = jnp.array([[0.0, 0.0], [0.5, 0.2]])
    params = jnp.zeros(3)

    @partial(jax.grad, has_aux=True)
    def slope_and_values(params):
        found, is_found = invert_points(Attention(), params, points)
        return found.sum(), (found, is_found)

    slope, (found, is_found) = slope_and_values(params)
    assert not is_found.any()
    assert jnp.isfinite(found).all()
    np.testing.assert_array_equal(slope, 0)


def test_the_number_of_steps(rng):
    """Newton's method for a spline needs a few; the rest are marked."""
    spline = ThinPlateSpline((3, 3))
    params = spline.identity.at[8].set(0.4)
    points = jnp.array([[0.1, 0.2], [3.0, 9.0]])
    _, is_found = invert_points(spline, params, points, max_iterations=1)
    assert not is_found.any()
    _, is_found = invert_points(spline, params, points)
    assert is_found.all()


class Swirl:
    """A user's family, whose hash does not depend on its contents."""

    num_params, identity = 1, jnp.zeros(1)

    def __init__(self, strength):
        self.strength = strength

    def grid(self, params, size, *, align_corners=False):
        raise NotImplementedError

    def apply(self, params, points):
        angle = self.strength * params[0] * (1 - (points**2).sum(-1))
        x, y = points.T
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        return jnp.stack([cos * x - sin * y, sin * x + cos * y], axis=-1)


def test_a_users_family(rng):
    """The angle depends on the radius, which stays: the inverse turns back."""
    swirl, params = Swirl(2.0), jnp.array([0.5])
    points = jnp.asarray(rng.uniform(-0.7, 0.7, size=(9, 2)), jnp.float32)
    for strength in (2.0, -1.0):
        swirl.strength = strength
        found, is_found = invert_points(swirl, params, points)
        assert is_found.all()
        np.testing.assert_allclose(found, swirl.apply(-params, points), atol=1e-5)


def test_a_family_that_holds_an_array(rng):
    """It cannot be hashed, so no program is kept for it."""
    params, points = draw(rng, ThinPlateSpline((3, 3))), jnp.array([[0.1, 0.2]])
    family = ThinPlateSpline((3, 3), jnp.float32(0.1))
    found, is_found = invert_points(family, params, points)
    assert is_found.all()
    np.testing.assert_allclose(family.apply(params, found), points, atol=1e-5)


def test_bad_arguments():
    points = jnp.zeros((3, 2))
    identity = Affine().identity

    class Grid:
        num_params, identity = 1, jnp.zeros(1)

        def grid(self, params, size, *, align_corners=False):
            raise NotImplementedError

    with pytest.raises(TypeError, match=r"must have apply\(params, points\); got"):
        invert_points(Grid(), jnp.zeros(1), points)
    with pytest.raises(TypeError, match="got the class Affine"):
        invert_points(Affine, identity, points)
    with pytest.raises(ValueError, match=r"points must be \(\*batch, N, 2\)"):
        invert_points(Affine(), identity, jnp.zeros((3, 3)))
    with pytest.raises(ValueError, match="params must be flat"):
        invert_points(Affine(), jnp.zeros(5), points)
    with pytest.raises(ValueError, match="leading axes must broadcast"):
        invert_points(Affine(), jnp.zeros((2, 6)), jnp.zeros((3, 4, 2)))
    with pytest.raises(ValueError, match="tolerance must be a positive number"):
        invert_points(Affine(), identity, points, tolerance=0)
    with pytest.raises(ValueError, match="max_iterations must be a positive integer"):
        invert_points(Affine(), identity, points, max_iterations=0)

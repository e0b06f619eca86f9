"""The families: their meanings, and the laws that all of them obey."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references
from gradients import check_derivatives
from scipy.spatial.transform import Rotation

from stn_jax import affine_grid, bilinear_sample, identity_grid, tps_grid, warp
from stn_jax.transforms import (
    Affine,
    Attention,
    Chain,
    Projective,
    Rigid,
    Similarity,
    ThinPlateSpline,
    Translation,
)

GROUPS = [
    Translation(),
    Translation(3),
    Attention(),
    Attention(3),
    Attention(isotropic=False),
    Attention(3, isotropic=False),
    Rigid(),
    Rigid(3),
    Rigid(aspect=1.5),
    Rigid(3, aspect=(1.5, 0.5)),
    Similarity(),
    Similarity(3),
    Similarity(aspect=0.75),
    Similarity(3, aspect=(0.75, 2.0)),
    Affine(),
    Affine(3),
    Projective(),
    Projective(3),
]
SPLINES = [ThinPlateSpline(), ThinPlateSpline((2, 5)), ThinPlateSpline((2, 3, 2))]
CHAINS = [
    Chain(Affine(), Rigid()),
    Chain(Projective(3), Translation(3), Similarity(3)),
    Chain(ThinPlateSpline((3, 3)), Attention(scale=0.5)),
]
FAMILIES = [*GROUPS, Attention(scale=0.5), Attention(3, scale=0.5), *SPLINES, *CHAINS]
WITH_IDENTITY = [*GROUPS, *SPLINES, *CHAINS[:2]]
OPTIONS = [Rigid(aspect=1.5), Similarity(aspect=0.75), ThinPlateSpline((2, 5))]
BATCHES = [(), (1,), (3, 2)]

pytestmark = pytest.mark.usefixtures("strict")
each_group = pytest.mark.parametrize("family", GROUPS, ids=str)


def with_slow_ones(families):
    """Each of them; slow are most for volumes, and those that differ by an option."""
    quick = [f for f in families if f.ndim == 2 and f not in OPTIONS] + [Affine(3)]
    slow = partial(pytest.param, marks=pytest.mark.slow)
    return pytest.mark.parametrize(
        "family", [f if f in quick else slow(f) for f in families], ids=str
    )


each_family = pytest.mark.parametrize("family", FAMILIES, ids=str)


def size_for(family):
    return (2, 3, 4) if family.ndim == 3 else (5, 3)


def draw(rng, family, batch=(), dtype=np.float32):
    """Parameters near the identity, all different."""
    noise = rng.uniform(-0.15, 0.15, size=(*batch, family.num_params))
    return (np.asarray(family.identity) + noise).astype(dtype)


def points_for(rng, family, batch=(), dtype=np.float32):
    return rng.uniform(-1, 1, size=(*batch, 7, family.ndim)).astype(dtype)


# meanings


COS30 = 0.75**0.5


def planar(a, b, c, d, tx, ty):
    return np.array([[a, b, tx], [c, d, ty], [0, 0, 1.0]])


@pytest.mark.parametrize(
    ("family", "params", "expected"),
    [
        (Translation(), [0.1, 0.2], planar(1, 0, 0, 1, 0.1, 0.2)),
        (Attention(), [0.5, 0.1, 0.2], planar(0.5, 0, 0, 0.5, 0.1, 0.2)),
        (
            Attention(isotropic=False),
            [0.5, 2.0, 0.1, 0.2],
            planar(0.5, 0, 0, 2.0, 0.1, 0.2),
        ),
        (Attention(scale=0.5), [0.1, 0.2], planar(0.5, 0, 0, 0.5, 0.1, 0.2)),
        (Rigid(), [np.pi / 6, 0.1, 0.2], planar(COS30, -0.5, 0.5, COS30, 0.1, 0.2)),
        (Similarity(), [2, np.pi / 2, 0.1, 0.2], planar(0, -2, 2, 0, 0.1, 0.2)),
        (Affine(), [1, 2, 3, 4, 5, 6], planar(1, 2, 4, 5, 3, 6)),
        (
            Projective(),
            [1, 2, 3, 4, 5, 6, 7, 8],
            np.array([[1, 2, 3], [4, 5, 6], [7, 8, 1.0]]),
        ),
    ],
    ids=lambda value: str(value) if not isinstance(value, np.ndarray) else "",
)  # fmt: skip
def test_the_order_and_the_units_of_parameters(x64, family, params, expected):
    matrix = family.matrix(jnp.array(params, float))
    np.testing.assert_allclose(matrix, expected, atol=1e-15)


@pytest.mark.parametrize("length", [0.0, 1e-9, 1e-3, 0.05, 0.2, 1.0, 3.0, np.pi - 1e-6])
def test_rotations_in_three_dimensions_are_scipys(x64, rng, length):
    axis = rng.normal(size=3)
    vector = length * axis / np.linalg.norm(axis)
    params = np.concatenate([[0.7], vector, [0.1, 0.2, 0.3]])
    matrix = Similarity(3).matrix(params)
    expected = 0.7 * Rotation.from_rotvec(vector).as_matrix()
    np.testing.assert_allclose(matrix[:3, :3], expected, atol=1e-14)
    np.testing.assert_allclose(matrix[:, 3], [0.1, 0.2, 0.3, 1])
    np.testing.assert_allclose(Similarity(3).params(matrix), params, atol=1e-9)


def test_a_positive_angle_turns_the_picture_counter_clockwise():
    """The pixel right of the center comes to lie above it."""
    image = jnp.zeros((3, 3, 1)).at[1, 2].set(1.0)
    out = warp(image, Rigid(), jnp.array([jnp.pi / 2, 0.0, 0.0]), method="nearest")
    np.testing.assert_array_equal(np.argwhere(out[..., 0]), [[0, 1]])


def test_a_scale_below_one_zooms_in():
    image = jnp.zeros((6, 6, 1)).at[2:4, 2:4].set(1.0)
    for family in (Attention(), Similarity()):
        out = warp(image, family, family.identity.at[0].set(1 / 3), method="nearest")
        np.testing.assert_array_equal(out, jnp.ones((6, 6, 1)))


@pytest.mark.parametrize("family", [Rigid(), Similarity()], ids=str)
def test_the_aspect_keeps_a_rotation_rigid_in_pixels(x64, rng, family):
    """On an image of 4 x 6 distances between points, in pixels, stay."""
    family = type(family)(aspect=6 / 4)
    params = family.identity.at[-3].set(0.7)
    points = points_for(rng, family, dtype=float)
    half_size = np.array([[3.0, 2.0]])
    before = points * half_size
    after = np.asarray(family.apply(params, points)) * half_size
    distances = [np.linalg.norm(p[:, None] - p[None], axis=-1) for p in (before, after)]
    np.testing.assert_allclose(*distances, atol=1e-12)


def test_affine_parameters_are_the_matrix_row_by_row():
    params = jnp.array([1.0, 0.1, 0.2, -0.3, 0.8, 0.4])
    theta = jnp.array([[1.0, 0.1, 0.2], [-0.3, 0.8, 0.4]])
    chex.assert_trees_all_equal(
        Affine().grid(params, (3, 4)), affine_grid(theta, (3, 4))
    )


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


def test_a_chain_warps_by_a_then_by_b(rng):
    """Two warps of a smooth picture one after the other, up to blur."""
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    image = np.exp(-3 * (x**2 + (y - 0.2) ** 2))[..., None].astype(np.float32)
    a, b = Affine(), Rigid()
    params_a = np.array([0.9, 0.2, 0.1, 0.0, 1.1, -0.1], np.float32)
    params_b = np.array([0.4, 0.1, 0.0], np.float32)
    params = np.concatenate([params_a, params_b])
    once = warp(image, Chain(a, b), params, padding_mode="border")
    first = warp(image, a, params_a, padding_mode="border")
    twice = warp(first, b, params_b, padding_mode="border")
    inner = (slice(16, -16), slice(16, -16))
    np.testing.assert_allclose(once[inner], twice[inner], atol=5e-3)
    wrong = warp(image, Chain(b, a), np.concatenate([params_b, params_a]))
    assert np.abs(wrong - twice)[inner].max() > 0.05


# laws


def laws(family, params, others, points, size):
    """Everything that the laws are about, in one program: compiling takes the time."""
    facts = {
        "grid": family.grid(params, size),
        "corners": family.grid(params, size, align_corners=True),
        "applied": family.apply(params, points),
    }
    for corners in (False, True):
        targets = references.identity_grid(size, corners).astype(params.dtype)
        targets = targets.reshape(-1, family.ndim)
        facts[f"applied to grid {corners}"] = family.apply(params, targets)
    if family in GROUPS:
        matrix = family.matrix(params)
        facts |= {
            "matrix": matrix,
            "params": family.params(matrix),
            "composed": family.apply(family.compose(params, others), points),
            "twice": family.apply(params, family.apply(others, points)),
            "back": family.apply(family.inverse(params), family.apply(params, points)),
        }
    return facts


def act(matrix, points):
    """Homogeneous points by the definition, in NumPy."""
    ones = np.ones((*points.shape[:-1], 1))
    lifted = np.concatenate([points, ones], axis=-1)
    moved = np.einsum("...ij,...pj->...pi", matrix, lifted)
    return moved[..., :-1] / moved[..., -1:]


@with_slow_ones(FAMILIES)
def test_the_laws(x64, rng, family):
    size, n = size_for(family), family.ndim
    stretched = n == 3 and getattr(family, "aspect", 1) != 1
    batches = BATCHES[-1:] if stretched else BATCHES  # their programs are the largest
    cases = []
    for batch in batches:
        params, others = (
            draw(rng, family, batch, float),
            draw(rng, family, batch, float),
        )
        cases.append((params, others, points_for(rng, family, batch, float)))

    @jax.jit
    def all_facts(cases):
        return [laws(family, *case, size) for case in cases]

    for batch, (params, _, points), facts in zip(
        batches, cases, all_facts(cases), strict=True
    ):
        for name in ("grid", "corners"):
            assert facts[name].shape == (*batch, *size, n)
            applied = facts[f"applied to grid {name == 'corners'}"]
            np.testing.assert_allclose(
                facts[name].reshape(applied.shape), applied, atol=1e-12, err_msg=name
            )
        assert facts["applied"].shape == points.shape
        if family not in GROUPS:
            continue
        assert facts["matrix"].shape == (*batch, n + 1, n + 1)
        for name, expected in [
            ("params", params),
            ("applied", act(facts["matrix"], points)),
            ("composed", facts["twice"]),
            ("back", points),
        ]:
            np.testing.assert_allclose(
                facts[name], expected, atol=1e-12, err_msg=f"{name} {batch}"
            )


@with_slow_ones(WITH_IDENTITY)
def test_the_identity_changes_nothing(family):
    """To the rounding of float32, in every batch shape."""
    size = size_for(family)
    assert family.identity.shape == (family.num_params,)

    @jax.jit
    def grids(identity):
        return [
            family.grid(jnp.broadcast_to(identity, (*batch, identity.size)), size)
            for batch in BATCHES
        ]

    expected = references.identity_grid(size, False)
    for grid in grids(family.identity):
        assert grid.shape[-family.ndim - 1 :] == expected.shape
        np.testing.assert_allclose(
            grid, np.broadcast_to(expected, grid.shape), atol=4e-6
        )


def test_a_fixed_scale_starts_at_the_center():
    family = Attention(scale=0.5)
    assert family.num_params == 2
    np.testing.assert_array_equal(family.identity, [0, 0])
    grid = family.grid(family.identity, (5, 3))
    chex.assert_trees_all_close(grid, identity_grid((5, 3)) / 2)


@pytest.mark.parametrize("family", [Rigid(), Projective(3), *CHAINS], ids=str)
def test_leading_axes_broadcast(rng, family):
    params, points = draw(rng, family, (3, 1)), points_for(rng, family, (2,))
    apply = jax.jit(family.apply)
    out = apply(params, points)
    assert out.shape == (3, 2, 7, family.ndim)
    np.testing.assert_allclose(out[1, 1], apply(params[1, 0], points[1]), atol=1e-6)
    if family in GROUPS:
        out = jax.jit(family.compose)(params, params[:2, 0])
        assert out.shape == (3, 2, family.num_params)
        one = family.compose(params[2, 0], params[1, 0])
        np.testing.assert_allclose(out[2, 1], one, atol=1e-6)


def test_a_key_point_of_the_input_lands_at_the_inverse(rng):
    """Where a warped picture shows its only bright pixel."""
    image = jnp.zeros((9, 9, 1)).at[2, 6].set(1.0)
    family, size = Similarity(), (9, 9)
    params = jnp.array([0.5, jnp.pi / 2, 0.25, -0.25])
    point = identity_grid(size)[2, 6][None]

    @jax.jit
    def read(params):
        lands = family.apply(family.inverse(params), point)
        return bilinear_sample(warp(image, family, params), lands[None])

    assert read(params).item() > 0.5


def test_what_is_infinite_stays_so(rng):
    points = jnp.array([[jnp.inf, 0.0], [0.1, -jnp.inf], [jnp.nan, 0.0], [0.1, 0.2]])

    @partial(jax.jit, static_argnums=0)
    @partial(jax.grad, argnums=2, has_aux=True)
    def slope_and_moved(family, params, points):
        moved = family.apply(params, points)
        return jnp.where(jnp.isfinite(moved), moved, 0).sum(), moved

    for family in (Affine(), Projective(), ThinPlateSpline(), CHAINS[0]):
        slope, moved = slope_and_moved(family, draw(rng, family), points)
        assert jnp.isinf(moved[:2]).all()
        assert jnp.isnan(moved[2]).any()
        assert jnp.isfinite(moved[3]).all()
        assert (slope[:2] == 0).all()
        assert (slope[3] != 0).all()
    chain, projective = Chain(Affine(), Projective()), Projective()
    params = jnp.concatenate([Affine().identity, projective.identity.at[6].set(2.0)])
    grid = chain.grid(params, (3, 4), align_corners=True)
    expected = projective.grid(params[6:], (3, 4), align_corners=True)
    chex.assert_trees_all_close(grid, expected)  # with points at infinity


# gradients


@with_slow_ones(FAMILIES)
def test_gradients_at_the_identity_and_elsewhere(x64, rng, family):
    """Never NaN, and never zero, where every layer starts."""
    identity, elsewhere = (
        jnp.asarray(family.identity, float),
        draw(rng, family, (), float),
    )
    slopes = check_derivatives(
        lambda params: family.grid(params, size_for(family)), [identity], [elsewhere]
    )
    assert all((jnp.abs(slope) > 1e-4).all() for (slope,) in slopes)


@pytest.mark.slow
@pytest.mark.parametrize("family", [Similarity(), Rigid(3), Projective()], ids=str)
def test_gradients_of_inverse_and_composition_at_the_identity(x64, rng, family):
    identity = jnp.asarray(family.identity, float)
    check_derivatives(
        lambda a, b: family.compose(a, family.inverse(b)), [identity, identity]
    )


# doors


def test_families_are_equal_and_hashable_by_value():
    """So that they can be static arguments of jitted functions."""
    assert Affine() == Affine(2)
    assert Rigid(aspect=1) == Rigid(aspect=1.0)
    assert Chain(Affine(), Rigid()) == Chain(Affine(), Rigid())
    assert hash(ThinPlateSpline((4, 4))) == hash(ThinPlateSpline([4, 4]))
    assert len(set(FAMILIES)) == len(FAMILIES)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Affine(ndim=4), "ndim must be 2 or 3; got 4"),
        (lambda: Rigid(ndim=1), "ndim must be 2 or 3; got 1"),
        (lambda: Rigid(aspect=0), "aspect must be a positive number; got 0"),
        (lambda: Rigid(aspect=(1, 2)), r"must be width / height .* got \(1, 2\)"),
        (lambda: Rigid(3, aspect=2.0), r"\(width / height, depth / height\)"),
        (lambda: Attention(scale=-1), "scale must be a positive number; got -1"),
        (lambda: Attention(scale=1.0, isotropic=False), "got scale=1.0, which fixes"),
        (lambda: ThinPlateSpline((1, 4)), r"shape must be .* got \(1, 4\)"),
        (lambda: ThinPlateSpline((4, 4, 4, 4)), "shape must be"),
        (lambda: Chain(Affine()), "two or more members"),
        (lambda: Chain(Affine(), Affine(3)), "same ndim"),
    ],
)
def test_a_family_that_cannot_be(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@each_family
def test_parameters_of_the_wrong_number(family):
    wrong = jnp.zeros((2, family.num_params + 1))
    for call in (
        lambda: family.grid(wrong, size_for(family)),
        lambda: family.apply(wrong, jnp.zeros((3, family.ndim))),
    ):
        with pytest.raises(ValueError, match=rf"\(\*batch, {family.num_params}\)"):
            call()


@each_group
def test_points_and_matrices_of_the_wrong_shape(family):
    n = family.ndim
    with pytest.raises(ValueError, match=rf"points must be \(\*batch, N, {n}\)"):
        family.apply(family.identity, jnp.zeros((4, 5 - n)))
    with pytest.raises(ValueError, match=rf"homogeneous, \(\*batch, {n + 1}, {n + 1}"):
        family.params(jnp.eye(n))


def test_a_fixed_scale_makes_no_group():
    family, params = Attention(scale=0.5), jnp.zeros(2)
    for call in (
        lambda: family.inverse(params),
        lambda: family.compose(params, params),
    ):
        with pytest.raises(ValueError, match="no group"):
            call()


def test_a_chain_needs_apply():
    class Grid:
        num_params, identity = 1, jnp.zeros(1)

        def grid(self, params, size, *, align_corners=False):
            return identity_grid(size, align_corners=align_corners)

    with pytest.raises(TypeError, match=r"lacks apply\(params, points\)"):
        Chain(Grid(), Affine())
    chain = Chain(Affine(), Grid())  # as the last it can do without
    grid = chain.grid(chain.identity, (3, 4))
    chex.assert_trees_all_close(grid, identity_grid((3, 4)), atol=1e-6)

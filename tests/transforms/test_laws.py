"""The laws that all families obey, one test each."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references
from conftest import enable_x64, no_promotion
from families import (
    BATCHES,
    CHAINS,
    FAMILIES,
    GROUPS,
    WITH_IDENTITY,
    draw,
    each_of,
    points_for,
    size_for,
    with_slow_marks,
)
from gradients import check_derivatives

from stn_jax.transforms import (
    Affine,
    Attention,
    Chain,
    Projective,
    Rigid,
    Similarity,
    ThinPlateSpline,
)

pytestmark = pytest.mark.usefixtures("strict")
each_family = pytest.mark.parametrize("family", FAMILIES, ids=str)


each_batch = pytest.mark.parametrize("batch", BATCHES, ids=str)


def inputs(family, batch):
    """Parameters of two transformations, and points, in float64."""
    rng = np.random.default_rng(2015)
    a, b = draw(rng, family, batch, float), draw(rng, family, batch, float)
    return a, b, points_for(rng, family, batch, float)


def for_each_batch(function, family):
    """``function(family, *inputs)`` in every batch shape, as one program."""
    cases = {batch: inputs(family, batch) for batch in BATCHES}

    @jax.jit
    def all_batches(cases):
        return {batch: function(family, *case) for batch, case in cases.items()}

    with no_promotion(), enable_x64():
        return jax.tree.map(np.asarray, all_batches(cases))


def mapped(family, a, b, points):
    """The grid of ``a``, and what ``apply`` gives at the same points."""
    size, facts = size_for(family), {}
    for corners in (False, True):
        pixels = references.identity_grid(size, corners).reshape(-1, family.ndim)
        facts[corners] = {
            "grid": family.grid(a, size, align_corners=corners),
            "applied": family.apply(a, pixels),
        }
    return facts


def algebra(family, a, b, points):
    """What the laws of groups are about."""
    matrix, applied = family.matrix(a), family.apply(a, points)
    return {
        "matrix": matrix,
        "params": family.params(matrix),
        "applied": applied,
        "composed": family.apply(family.compose(a, b), points),
        "one after the other": family.apply(a, family.apply(b, points)),
        "back": family.apply(family.inverse(a), applied),
    }


@pytest.fixture(scope="module", params=with_slow_marks(FAMILIES), ids=str)
def maps(request):
    """A family, and its maps in every batch shape."""
    return request.param, for_each_batch(mapped, request.param)


@pytest.fixture(scope="module", params=with_slow_marks(GROUPS), ids=str)
def group(request):
    """A group, and its algebra in every batch shape."""
    return request.param, for_each_batch(algebra, request.param)


@each_batch
@pytest.mark.parametrize("align_corners", [False, True])
def test_the_grid_is_apply_at_the_pixels(maps, batch, align_corners):
    family, facts = maps
    facts = facts[batch][align_corners]
    assert facts["grid"].shape == (*batch, *size_for(family), family.ndim)
    grid = facts["grid"].reshape(facts["applied"].shape)
    np.testing.assert_allclose(grid, facts["applied"], atol=1e-12)


@each_batch
def test_apply_multiplies_homogeneous_points_by_the_matrix(group, batch):
    family, facts = group
    matrix, n = facts[batch]["matrix"], family.ndim
    assert matrix.shape == (*batch, n + 1, n + 1)
    _, _, points = inputs(family, batch)
    ones = np.ones((*points.shape[:-1], 1))
    moved = np.einsum("...ij,...pj->...pi", matrix, np.concatenate([points, ones], -1))
    expected = moved[..., :-1] / moved[..., -1:]
    np.testing.assert_allclose(facts[batch]["applied"], expected, atol=1e-12)


@each_batch
def test_params_inverts_matrix(group, batch):
    family, facts = group
    expected, _, _ = inputs(family, batch)
    np.testing.assert_allclose(facts[batch]["params"], expected, atol=1e-12)


@each_batch
def test_compose_applies_b_and_then_a(group, batch):
    _, facts = group
    expected = facts[batch]["one after the other"]
    np.testing.assert_allclose(facts[batch]["composed"], expected, atol=1e-12)


@each_batch
def test_inverse_undoes_apply(group, batch):
    family, facts = group
    _, _, points = inputs(family, batch)
    np.testing.assert_allclose(facts[batch]["back"], points, atol=1e-12)


@each_of(WITH_IDENTITY)
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


def test_infinite_points_stay_infinite(rng):
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


@each_of(FAMILIES)
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


# construction and errors


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
def test_invalid_families_are_refused(make, message):
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

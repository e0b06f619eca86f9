"""Translation, Attention, Affine and Projective: what their parameters mean."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from families import GROUPS

from stn_jax import affine_grid, bilinear_sample, identity_grid, warp
from stn_jax.transforms import (
    Affine,
    Attention,
    Projective,
    Rigid,
    Similarity,
    Translation,
)

pytestmark = pytest.mark.usefixtures("strict")
each_group = pytest.mark.parametrize("family", GROUPS, ids=str)
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


def test_a_scale_below_one_zooms_in():
    image = jnp.zeros((6, 6, 1)).at[2:4, 2:4].set(1.0)
    for family in (Attention(), Similarity()):
        out = warp(image, family, family.identity.at[0].set(1 / 3), method="nearest")
        np.testing.assert_array_equal(out, jnp.ones((6, 6, 1)))


def test_affine_parameters_are_the_matrix_row_by_row():
    params = jnp.array([1.0, 0.1, 0.2, -0.3, 0.8, 0.4])
    theta = jnp.array([[1.0, 0.1, 0.2], [-0.3, 0.8, 0.4]])
    chex.assert_trees_all_equal(
        Affine().grid(params, (3, 4)), affine_grid(theta, (3, 4))
    )


def test_a_fixed_scale_starts_at_the_center():
    family = Attention(scale=0.5)
    assert family.num_params == 2
    np.testing.assert_array_equal(family.identity, [0, 0])
    grid = family.grid(family.identity, (5, 3))
    chex.assert_trees_all_close(grid, identity_grid((5, 3)) / 2)


def test_a_fixed_scale_makes_no_group():
    family, params = Attention(scale=0.5), jnp.zeros(2)
    for call in (
        lambda: family.inverse(params),
        lambda: family.compose(params, params),
    ):
        with pytest.raises(ValueError, match="no group"):
            call()


def test_a_key_point_of_the_input_lands_at_the_inverse(rng):
    """Where a warped picture shows its only bright pixel."""
    image = jnp.zeros((9, 9, 1)).at[2, 6].set(1.0)
    family, size = Similarity(), (9, 9)
    params = jnp.array([0.5, jnp.pi / 2, 0.25, -0.25])
    point = identity_grid(size)[2, 6][None]

    @jax.jit
    def sampled(params):
        lands = family.apply(family.inverse(params), point)
        return bilinear_sample(warp(image, family, params), lands[None])

    assert sampled(params).item() > 0.5


@each_group
def test_points_and_matrices_of_the_wrong_shape(family):
    n = family.ndim
    with pytest.raises(ValueError, match=rf"points must be \(\*batch, N, {n}\)"):
        family.apply(family.identity, jnp.zeros((4, 5 - n)))
    with pytest.raises(ValueError, match=rf"homogeneous, \(\*batch, {n + 1}, {n + 1}"):
        family.params(jnp.eye(n))

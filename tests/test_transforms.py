import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stn_jax import affine_grid, control_lattice, identity_grid, tps_grid
from stn_jax.transforms import Affine, ThinPlateSpline

FAMILIES = [Affine(), Affine(ndim=3), ThinPlateSpline(), ThinPlateSpline((2, 5))]
BATCHES = [(), (1,), (3, 2)]

pytestmark = pytest.mark.usefixtures("strict")


def size_for(family):
    return (2, 3, 4) if getattr(family, "ndim", 2) == 3 else (5, 3)


@pytest.mark.parametrize("family", FAMILIES, ids=str)
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("batch", BATCHES)
def test_the_identity_changes_nothing(family, align_corners, batch):
    size = size_for(family)
    assert family.identity.shape == (family.num_params,)
    params = jnp.broadcast_to(family.identity, (*batch, family.num_params))
    grid = family.grid(params, size, align_corners=align_corners)
    expected = identity_grid(size, align_corners=align_corners)
    expected = jnp.broadcast_to(expected, (*batch, *expected.shape))
    chex.assert_trees_all_close(grid, expected, atol=2e-6)


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_every_parameter_has_a_gradient_at_the_identity(rng, family):
    size = size_for(family)
    weights = jnp.array(rng.normal(size=(*size, len(size))), jnp.float32)
    gradient = jax.grad(lambda p: (weights * family.grid(p, size)).sum())(
        family.identity
    )
    assert jnp.isfinite(gradient).all()
    assert (jnp.abs(gradient) > 1e-4).all()


def test_affine_parameters_are_the_matrix_row_by_row():
    params = jnp.array([1.0, 0.1, 0.2, -0.3, 0.8, 0.4])
    theta = jnp.array([[1.0, 0.1, 0.2], [-0.3, 0.8, 0.4]])
    chex.assert_trees_all_equal(
        Affine().grid(params, (3, 4)), affine_grid(theta, (3, 4))
    )


def test_spline_parameters_are_points_in_lattice_order(rng):
    points = np.asarray(control_lattice((2, 5))) + 0.1 * rng.normal(size=(10, 2))
    points = points.astype(np.float32)
    grid = ThinPlateSpline((2, 5), 0.2).grid(points.reshape(-1), (3, 4))
    expected = tps_grid(
        points,
        (3, 4),
        target_points=np.asarray(control_lattice((2, 5))),
        regularization=0.2,
    )
    chex.assert_trees_all_close(grid, expected, atol=1e-6)


def test_families_are_equal_and_hashable_by_value():
    """So that they can be static arguments of jitted functions."""
    assert Affine() == Affine(2)
    assert hash(ThinPlateSpline((4, 4))) == hash(ThinPlateSpline([4, 4]))
    assert ThinPlateSpline((4, 4)) != ThinPlateSpline((4, 5))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Affine(ndim=4),
        lambda: ThinPlateSpline((1, 4)),
        lambda: ThinPlateSpline((4, 4, 4)),
    ],
)
def test_a_family_that_cannot_be(make):
    with pytest.raises(ValueError, match="must be"):
        make()


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_parameters_of_the_wrong_number(family):
    with pytest.raises(ValueError, match=rf"\(\*batch, {family.num_params}\)"):
        family.grid(jnp.zeros((2, family.num_params + 1)), size_for(family))

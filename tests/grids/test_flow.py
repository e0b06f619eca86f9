"""Grids of displacement fields."""

import chex
import jax.numpy as jnp
import numpy as np
import pytest

from stn_jax import flow_grid, identity_grid, sample

pytestmark = pytest.mark.usefixtures("strict")
SIZES = [(4, 7), (1, 3), (3, 2, 5)]
CORNERS = [False, True]


@pytest.mark.parametrize("align_corners", CORNERS)
@pytest.mark.parametrize("size", SIZES)
def test_a_flow_moves_by_pixels(rng, size, align_corners):
    image = rng.normal(size=(*size, 2)).astype(np.float32)
    flow = rng.uniform(-2, 2, size=(*size, len(size))).astype(np.float32)
    index = np.stack(np.indices(size)[::-1], axis=-1).astype(np.float32)
    if align_corners:  # an axis of one pixel has no extent to move in
        flow = flow * np.array([n > 1 for n in size[::-1]], np.float32)
    out = sample(
        image, flow_grid(flow, align_corners=align_corners), align_corners=align_corners
    )
    expected = sample(image, index + flow, coordinates="pixel")
    np.testing.assert_allclose(out, expected, atol=2e-5)


def test_a_flow_of_another_resolution_is_in_the_inputs_pixels():
    flow = jnp.zeros((2, 3, 4, 2)).at[..., 0].set(5.0).at[..., 1].set(-2.0)
    grid = flow_grid(flow, (8, 20))
    shift = jnp.broadcast_to(jnp.array([2 * 5 / 20, -2 * 2 / 8]), (3, 4, 2))
    expected = identity_grid((3, 4)) + shift
    chex.assert_trees_all_close(grid[1], expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(2,), (3, 2), (3, 4), (3, 4, 3)])
def test_a_flow_of_the_wrong_shape(shape):
    with pytest.raises(ValueError, match=r"flow must be .* got shape"):
        flow_grid(jnp.zeros(shape))


def test_a_flow_knows_its_inputs_dimensions():
    with pytest.raises(ValueError, match="size must be"):
        flow_grid(jnp.zeros((3, 4, 2)), (3, 4, 5))

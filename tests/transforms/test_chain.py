"""Chain: the order of its members, and what they need."""

import chex
import jax.numpy as jnp
import numpy as np
import pytest
from families import CHAINS, size_for

from stn_jax import identity_grid, warp
from stn_jax.transforms import Affine, Chain, Rigid

pytestmark = pytest.mark.usefixtures("strict")


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


@pytest.mark.parametrize("chain", [CHAINS[0], CHAINS[2]], ids=str)
def test_empty_batches(chain):
    params = jnp.zeros((0, chain.num_params))
    size = size_for(chain)
    assert chain.grid(params, size).shape == (0, *size, chain.ndim)
    points = jnp.zeros((0, 7, chain.ndim))
    assert chain.apply(params, points).shape == points.shape

"""`warp`: a family's grid and a sampler in one call."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stn_jax import Kernel, identity_grid, sample, warp
from stn_jax.transforms import Affine, Attention, ThinPlateSpline

pytestmark = pytest.mark.usefixtures("strict")
CORNERS = [False, True]


@pytest.mark.parametrize("align_corners", CORNERS)
def test_warp_is_the_two_steps_in_one(rng, align_corners):
    image = jnp.asarray(rng.normal(size=(3, 2, 5, 6, 2)), jnp.float32)
    family = ThinPlateSpline((3, 3))
    params = (
        family.identity + jnp.asarray(0.2 * rng.normal(size=(2, 18)), jnp.float32)[0]
    )
    options = {"method": "bicubic", "padding_mode": "border"}
    out = warp(image, family, params, (4, 3), align_corners=align_corners, **options)
    grid = family.grid(params, (4, 3), align_corners=align_corners)
    expected = sample(image, grid, align_corners=align_corners, **options)
    assert out.shape == (3, 2, 4, 3, 2)
    chex.assert_trees_all_equal(out, expected)


def test_warp_keeps_the_images_size(rng):
    volume = jnp.asarray(rng.normal(size=(2, 3, 4, 5, 1)), jnp.float32)
    family = Affine(ndim=3)
    chex.assert_trees_all_close(
        warp(volume, family, family.identity), volume, atol=1e-5
    )
    kernel = Kernel(1, lambda d: 1 - jnp.abs(d))
    out = warp(volume, family, family.identity, method=kernel)
    chex.assert_trees_all_close(out, volume, atol=1e-5)


def test_a_family_of_ones_own():
    """Three members are enough."""

    class Shift:
        num_params = 1
        identity = jnp.zeros(1)

        def grid(self, params, size, *, align_corners=False):
            shift = jnp.stack([params[..., 0], jnp.zeros_like(params[..., 0])], axis=-1)
            return identity_grid(size, align_corners=align_corners) + jnp.broadcast_to(
                shift, (*size, 2)
            )

    image = jnp.arange(4.0).reshape(1, 4, 1)
    out = warp(image, Shift(), jnp.array([0.5]))
    np.testing.assert_allclose(out[0, :, 0], [1, 2, 3, 0], atol=1e-6)


def test_scale_and_translate(rng):
    """Attention is jax.image's scaling and shifting, in other units."""
    image = jnp.asarray(rng.normal(size=(9, 12, 1)), jnp.float32)
    params = jnp.array([0.5, 0.2, -0.1])
    out = warp(image, Attention(), params, padding_mode="border")
    half = jnp.array([4.5, 6.0])
    scale = 1 / params[0] * jnp.ones(2)
    # output = scale * input + translation, with edges at 0 and n
    translation = half - scale * half * (1 + jnp.flip(params[1:]))
    expected = jax.image.scale_and_translate(
        image, image.shape, (0, 1), scale, translation, "linear", antialias=False
    )
    np.testing.assert_allclose(out, expected, atol=1e-5)

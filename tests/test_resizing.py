"""Resizing by a grid, against jax.image where the definitions agree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stn_jax import identity_grid, sample, warp
from stn_jax.transforms import Attention

pytestmark = pytest.mark.usefixtures("strict")
# jax.image leaves out taps beyond the edge and raises the others' weights: the kernels
# agree with ours as far from the edge as they reach, bilinear's also at the border
KERNELS = {
    "nearest": ("nearest", 0),
    "bilinear": ("linear", 0),
    "catmull_rom": ("cubic", 2),
    "lanczos3": ("lanczos3", 3),
}
# sizes that put no point halfway between two pixels, where nearest hangs on a rounding
CASES = [
    *((method, (9, 11), (17, 23)) for method in KERNELS),
    *((method, (20, 24), (9, 16)) for method in KERNELS),
    *((method, (5, 7, 7), (9, 7, 11)) for method in ("nearest", "bilinear")),
]


@pytest.mark.parametrize(("method", "size", "out_size"), CASES)
def test_resize(rng, method, size, out_size):
    """Up and down, without antialiasing, in pixels' edges as jax.image has them."""
    image = jnp.asarray(rng.normal(size=(*size, 2)), jnp.float32)
    name, reach = KERNELS[method]
    out = sample(image, identity_grid(out_size), method=method, padding_mode="border")
    shape = (*out_size, 2)
    expected = jax.image.resize(image, shape, name, antialias=False)
    margins = [int(np.ceil(reach * m / n)) for n, m in zip(size, out_size, strict=True)]
    inner = tuple(slice(k, n - k) for k, n in zip(margins, out_size, strict=True))
    assert out[inner].size
    np.testing.assert_allclose(out[inner], expected[inner], atol=1e-5)


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

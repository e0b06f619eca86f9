"""Gathers and dense products: the same values and gradients, kinks included."""

from functools import partial

import chex
import jax.numpy as jnp
import numpy as np
import pytest
from gradients import by_gather_and_dense

from stn_jax import Kernel, sample, warp
from stn_jax.sampling.kernels import METHODS
from stn_jax.sampling.padding import RULES
from stn_jax.transforms import Attention

SIZES = {2: (5, 6), 3: (3, 4, 5)}
SOME = [(2, "bilinear", mode) for mode in RULES] + [
    (3, "bilinear", "zeros"),
]
OTHERS = [
    (ndim, method, mode)
    for ndim, method in [*((2, method) for method in METHODS), (3, "bicubic")]
    for mode in RULES
    if (ndim, method, mode) not in SOME
] + [(2, Kernel(1.5, lambda d: jnp.exp(-d * d)), "constant")]
exhaustive = partial(pytest.param, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("ndim", "method", "mode"), SOME + [exhaustive(*case) for case in OTHERS]
)
def test_on_any_grid(rng, x64, ndim, method, mode):
    """The taps are the same, and so are the sums, to rounding."""
    image = rng.normal(size=(2, *SIZES[ndim], 3))
    grid = rng.uniform(-1.6, 1.6, size=(2, *(1,) * (ndim - 2), 4, 5, ndim))
    options = {"method": method, "padding_mode": mode}
    if mode == "constant":
        options["fill_value"] = jnp.array([1.0, -2.0, 0.5])
    gather, dense = by_gather_and_dense(
        lambda image, grid, **way: sample(image, grid, **options, **way), image, grid
    )
    chex.assert_trees_all_close(gather, dense, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_on_the_lattice(rng, method):
    """Where the kernel has kinks or jumps: the right-hand side, both ways."""
    image = rng.normal(size=(1, 4, 8, 2)).astype(np.float32)
    x, y = np.meshgrid(np.arange(-1.0, 9), np.arange(-1.0, 5))
    points = np.stack([x, y], axis=-1)[None].astype(np.float32)
    gather, dense = by_gather_and_dense(
        lambda image, points, **way: sample(
            image, points, method=method, coordinates="pixel", **way
        ),
        image,
        points,
    )
    chex.assert_trees_all_close(gather, dense, rtol=1e-5, atol=1e-5)


def test_coordinates_that_are_not_finite(rng):
    image = rng.normal(size=(4, 5, 2)).astype(np.float32)
    special = np.float32([np.nan, np.inf, -np.inf, 1e9, 0.1])
    grid = np.stack(np.meshgrid(special, special), axis=-1)
    gather, dense = by_gather_and_dense(
        lambda image, grid, **way: sample(image, grid, padding_mode="wrap", **way),
        image,
        grid,
    )
    chex.assert_trees_all_close(gather, dense, rtol=1e-5, atol=1e-5)
    params = np.float32([[1.0, np.nan, 0.0], [1.0, np.inf, 0.0]])
    images = np.stack([image, image])
    for way in ("gather", "dense"):
        out = warp(images, Attention(), params, implementation=way)
        assert np.isnan(out[0]).all()
        np.testing.assert_array_equal(out[1], 0)

"""The largest and the mean of each window, and where the gradient goes."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stn_jax.pooling import average_pool, max_pool


def loops(images, factor, ceil_mode):
    """The largest pixels, and how often each pixel was one, window by window."""
    size = images.shape[1:-1]
    counts = [-(-n // factor) if ceil_mode else n // factor for n in size]
    out = np.zeros((len(images), *counts, images.shape[-1]), images.dtype)
    chosen = np.zeros_like(images)
    for b, *window, c in np.ndindex(out.shape):
        inside = (b, *(slice(i * factor, (i + 1) * factor) for i in window), c)
        pixels = images[inside]
        out[b, *window, c] = pixels.max()
        chosen[inside] = (pixels == pixels.max()) / (pixels == pixels.max()).sum()
    return out, chosen


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize(
    ("size", "factor"), [((4, 6), 2), ((5, 7), 2), ((7, 8), 3), ((4, 5, 3), 2)]
)
def test_values_and_gradient(rng, size, factor, ceil_mode):
    images = rng.normal(size=(2, *size, 3)).astype(np.float32)
    images[0] = images[0].round()  # some are alike
    pool = lambda x: max_pool(x, factor, ceil_mode=ceil_mode)  # noqa: E731
    out, chosen = loops(images, factor, ceil_mode)
    np.testing.assert_array_equal(pool(images), out)
    grads = jax.grad(lambda x: pool(x).sum())(images)
    np.testing.assert_allclose(grads, chosen, rtol=1e-6)
    bar, dot = (rng.normal(size=x.shape).astype(np.float32) for x in (out, images))
    along = jax.jvp(pool, (images,), (dot,))[1]
    back = jax.vjp(pool, images)[1](bar)[0]
    np.testing.assert_allclose((bar * along).sum(), (back * dot).sum(), rtol=1e-4)


def test_of_squares_twice(rng):
    images = jnp.asarray(rng.normal(size=(1, 4, 4, 1)))
    _, chosen = loops(np.square(np.asarray(images)), 2, False)
    second = jax.hessian(lambda x: max_pool(jnp.square(x), 2).sum())(images)
    np.testing.assert_allclose(second.reshape(16, 16), np.diag(2 * chosen.ravel()))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_values_that_are_not_finite_and_dtypes(dtype):
    images = jnp.array([[-jnp.inf, -jnp.inf, 1, 2], [-jnp.inf, -jnp.inf, jnp.nan, 0]])
    images = images.astype(dtype)[None, ..., None]
    out, pull = jax.vjp(lambda x: max_pool(x, 2), images)
    chex.assert_type([out, *pull(out)], dtype)
    assert out[0, 0, 0, 0] == -jnp.inf
    assert jnp.isnan(out[0, 0, 1, 0])
    assert jnp.isfinite(pull(jnp.ones_like(out))[0]).all()


@pytest.mark.parametrize(("size", "factor"), [((4, 6), 2), ((7, 8), 3), ((4, 5, 3), 2)])
def test_the_mean_of_each_window(rng, size, factor):
    images = rng.normal(size=(2, *size, 3)).astype(np.float32)
    expected = np.zeros((2, *(n // factor for n in size), 3))
    for b, *window, c in np.ndindex(expected.shape):
        inside = (b, *(slice(i * factor, (i + 1) * factor) for i in window), c)
        expected[b, *window, c] = images[inside].astype(np.float64).mean()
    np.testing.assert_allclose(average_pool(images, factor), expected, atol=1e-6)
    grads = jax.grad(lambda x: average_pool(x, factor).sum())(images)
    reached = np.zeros_like(images)
    reached[:, *(slice(n // factor * factor) for n in size)] = factor ** -len(size)
    np.testing.assert_allclose(grads, reached, rtol=1e-6)

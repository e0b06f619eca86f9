"""`supersample=k`: each output pixel is the mean of samples at its subpixels."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references
from flax import nnx
from gradients import check_derivatives

from stn_jax import Sampler, identity_grid, linen, warp
from stn_jax.nnx import ParallelSpatialTransformers, SpatialTransformer
from stn_jax.transforms import Affine, Attention, Chain, Projective, ThinPlateSpline

pytestmark = pytest.mark.usefixtures("strict")
CORNERS = [False, True]


def subpixel(i, j, k, n, align_corners):
    """Subpixel j of k in pixel i of n, normalized."""
    if align_corners and n == 1:  # a single pixel from -1 to 1
        return (2 * j + 1) / k - 1
    return references.normalized(i + (j + 0.5) / k - 0.5, n, align_corners)


def means(image, move, size, k, align_corners):
    """One output pixel after the other; ``move`` maps points (1, n)."""
    out = np.zeros((*size, image.shape[-1]))
    for pixel in np.ndindex(*size):
        for part in np.ndindex(*(k,) * len(size)):
            point = [
                subpixel(i, j, k, n, align_corners)
                for i, j, n in zip(pixel, part, size, strict=True)
            ]
            grid = np.asarray(move(np.array([point[::-1]])))
            grid = grid.reshape(*(1,) * len(size), len(size))
            value = references.bilinear_sample(image, grid, "zeros", align_corners)
            out[pixel] += value.reshape(-1) / k ** len(size)
    return out


THETA = np.array([[1.1, 0.4, 0.1], [-0.3, 0.9, -0.2]])
THETA_3D = np.array([[1.1, 0.4, 0, 0.1], [-0.3, 0.9, 0, -0.2], [0.1, 0, 0.8, 0]])


@pytest.mark.parametrize("align_corners", CORNERS)
@pytest.mark.parametrize(
    ("theta", "size", "k"),
    [(THETA, (2, 3), 3), (THETA, (1, 2), 2), (THETA_3D, (2, 1, 2), 2)],
    ids=["3", "2", "volumes"],
)
def test_the_mean_of_the_subpixels(x64, rng, theta, size, k, align_corners):
    ndim = len(size)
    image = rng.normal(size=(*(5, 7, 4)[:ndim], 2))
    family = Affine(ndim)
    options = {"supersample": k, "align_corners": align_corners}
    out = warp(image, family, theta.reshape(-1), size, **options)

    def move(points):
        return points @ theta[:, :-1].T + theta[:, -1]

    expected = means(image, move, size, k, align_corners)
    np.testing.assert_allclose(out, expected, atol=1e-12)


@pytest.mark.parametrize("align_corners", CORNERS)
@pytest.mark.parametrize(
    "family",
    [
        Projective(),
        ThinPlateSpline((2, 3)),
        Chain(Affine(), ThinPlateSpline((2, 2))),
    ],
    ids=str,
)
def test_all_families(x64, rng, family, align_corners):
    """Points by the family's ``apply``, which other tests compare with definitions."""
    image = rng.normal(size=(6, 5, 1))
    params = family.identity + 0.1 * rng.normal(size=family.num_params)
    apply = jax.jit(family.apply)
    expected = means(image, lambda p: apply(params, p), (2, 3), 2, align_corners)
    options = {"supersample": 2, "align_corners": align_corners}
    out = jax.jit(lambda *a: warp(*a, (2, 3), **options), static_argnums=1)(
        image, family, params
    )
    np.testing.assert_allclose(out, expected, atol=1e-10)


@pytest.mark.parametrize("k", [2, 3])
def test_shrinking_by_k_averages_blocks(rng, k):
    """Where each subpixel is a pixel of the input, the mean of them is exact."""
    image = rng.normal(size=(4 * k, 3 * k, 2)).astype(np.float32)
    out = warp(image, Affine(), Affine().identity, (4, 3), supersample=k)
    blocks = image.reshape(4, k, 3, k, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(out, blocks, atol=1e-5)


def test_one_sample_is_the_plain_warp(rng):
    image = jnp.asarray(rng.normal(size=(5, 6, 2)), jnp.float32)
    params = jnp.asarray(THETA.reshape(-1), jnp.float32)
    plain = warp(image, Affine(), params, (4, 3), method="bicubic")
    one = warp(image, Affine(), params, (4, 3), method="bicubic", supersample=1)
    chex.assert_trees_all_equal(one, plain)
    programs = [
        str(jax.make_jaxpr(lambda p, s=s: warp(image, Affine(), p, **s))(params))
        for s in ({}, {"supersample": 1}, {"supersample": 2})
    ]
    assert programs[0] == programs[1] != programs[2]


def test_derivatives(x64, rng):
    image = rng.normal(size=(5, 6, 1))
    for align_corners in CORNERS:
        options = {"supersample": 2, "align_corners": align_corners}
        check_derivatives(
            lambda image, theta, options=options: warp(
                image, Affine(), theta, (3, 2), **options
            ),
            [image, THETA.reshape(-1) + 0.013],
        )


@pytest.mark.parametrize("align_corners", CORNERS)
def test_batches_windows_and_options(rng, align_corners):
    images = jnp.asarray(rng.normal(size=(3, 6, 5, 2)), jnp.float32)
    family = Attention()
    params = (np.array([1, 0, 0]) + rng.uniform(size=(3, 2, 3))).astype(np.float32)
    sampler = Sampler("bicubic", "constant", 0.5, align_corners)
    options = {"sampler": sampler, "supersample": 2}
    out = warp(images[:, None], family, params, (2, 3), **options)
    assert out.shape == (3, 2, 2, 3, 2)
    one = warp(images[1], family, params[1, 0], (2, 3), **options)
    chex.assert_trees_all_close(out[1, 0], one, atol=1e-5)
    mapped = jax.vmap(lambda p: warp(images[1], family, p, (2, 3), **options))
    chex.assert_trees_all_close(mapped(params[1]), out[1], atol=1e-5)


def test_dtypes_are_kept(rng):
    image = rng.uniform(size=(8, 8, 1))
    exact = image.reshape(4, 2, 4, 2, 1).mean(axis=(1, 3))
    for dtype, bound in (("bfloat16", 2**-8), ("float16", 2**-10), ("complex64", 1e-6)):
        given = jnp.asarray(image).astype(dtype)
        out = warp(given, Affine(), Affine().identity, (4, 4), supersample=2)
        assert out.dtype == dtype
        np.testing.assert_allclose(out.astype("complex64"), exact, atol=2 * bound)


@pytest.mark.parametrize("align_corners", CORNERS)
def test_the_modules(rng, align_corners):
    images = jnp.asarray(rng.normal(size=(2, 8, 8, 1)), jnp.float32)
    options = {"supersample": 4, "align_corners": align_corners}
    identity = Affine().identity
    expected = warp(images, Affine(), identity, (2, 2), **options)
    assert jnp.abs(expected - warp(images, Affine(), identity, (2, 2))).max() > 0.1
    net = lambda images: images[:, 0, :, 0]  # noqa: E731
    st = SpatialTransformer(
        net, Affine(), (2, 2), features=8, rngs=nnx.Rngs(0), **options
    )
    chex.assert_trees_all_close(st(images), expected, atol=1e-6)
    several = ParallelSpatialTransformers(
        net, Affine(), identity[None], (2, 2), features=8, rngs=nnx.Rngs(0), **options
    )
    chex.assert_trees_all_close(several(images)[:, 0], expected, atol=1e-6)
    in_linen = linen.SpatialTransformer(net, Affine(), (2, 2), **options)
    out, _ = in_linen.init_with_output(jax.random.key(0), images)
    chex.assert_trees_all_close(out, expected, atol=1e-6)
    in_linen = linen.ParallelSpatialTransformers(
        net, Affine(), (2, 2), start=identity[None], **options
    )
    out, _ = in_linen.init_with_output(jax.random.key(0), images)
    chex.assert_trees_all_close(out[:, 0], expected, atol=1e-6)


class Shift:
    """A family without ``apply``."""

    num_params, identity = 1, jnp.zeros(1)

    def grid(self, params, size, *, align_corners=False):
        grid = identity_grid(size, align_corners=align_corners)
        return grid + jnp.broadcast_to(params, grid.shape)


def test_a_family_without_apply(rng):
    image = jnp.asarray(rng.normal(size=(6, 4, 1)), jnp.float32)
    out = warp(image, Shift(), jnp.zeros(1), (3, 2), supersample=2)
    expected = image.reshape(3, 2, 2, 2, 1).mean(axis=(1, 3))
    np.testing.assert_allclose(out, expected, atol=1e-5)
    with pytest.raises(TypeError, match=r"lacks apply.* align_corners=True"):
        warp(image, Shift(), jnp.zeros(1), supersample=2, align_corners=True)


def test_what_is_refused():
    image, identity = jnp.ones((4, 5, 1)), Attention().identity
    for wrong, error in ((0, ValueError), (-2, ValueError), (1.5, TypeError)):
        with pytest.raises(error, match="supersample must be a positive integer"):
            warp(image, Attention(), identity, supersample=wrong)
        with pytest.raises(error, match="supersample must be a positive integer"):
            SpatialTransformer(jnp.sum, features=1, rngs=nnx.Rngs(0), supersample=wrong)
        with pytest.raises(error, match="supersample must be a positive integer"):
            linen.SpatialTransformer(jnp.sum, supersample=wrong)
    with pytest.raises(TypeError, match="known when tracing"):
        jax.jit(lambda k: warp(image, Attention(), identity, supersample=k))(2)
    with pytest.raises(ValueError, match="weighs all pixels already; got it with"):
        warp(
            image, Attention(), identity, antialias=True, outside="fill", supersample=2
        )
    with pytest.raises(ValueError, match="pass supersample=k"):
        warp(image, Affine(), Affine().identity, antialias=True, outside="fill")
    labels = jnp.ones((4, 5, 1), int)
    with pytest.raises(TypeError, match=r"floating.*got dtype int.*Leave supersample"):
        warp(labels, Attention(), identity, method="nearest", supersample=2)

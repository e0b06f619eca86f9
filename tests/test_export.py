"""Programs for other machines: jax.export, with a batch size left open."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from jax import export

import stn_jax
from stn_jax.transforms import Affine, Projective, ThinPlateSpline

PLATFORMS = ("cpu", "cuda", "tpu")


def round_trip(function, *arguments, vjp_order=0):
    """Exported for all platforms with symbolic leading axes b, through bytes, back."""
    (b,) = export.symbolic_shape("b")
    symbolic = [jax.ShapeDtypeStruct((b, *a.shape[1:]), jnp.float32) for a in arguments]
    exported = export.export(jax.jit(function), platforms=PLATFORMS)(*symbolic)
    data = exported.serialize(vjp_order=vjp_order)
    loaded = export.deserialize(data)
    assert loaded.platforms == PLATFORMS
    return loaded


def image(rng, *shape):
    return rng.normal(size=shape).astype(np.float32)


def grid(rng, *shape):
    return rng.uniform(-1.2, 1.2, size=shape).astype(np.float32)


def near(family, rng, batch):
    noise = 0.1 * rng.normal(size=(batch, family.num_params))
    return (np.asarray(family.identity) + noise).astype(np.float32)


CASES = {
    "affine_grid": (
        lambda theta: stn_jax.affine_grid(theta, (4, 5)),
        lambda rng, b: (image(rng, b, 2, 3),),
    ),
    "projective_grid": (
        lambda theta: stn_jax.projective_grid(theta, (4, 5)),
        lambda rng, b: (image(rng, b, 3, 3),),
    ),
    "tps_grid": (
        lambda points: stn_jax.tps_grid(points, (4, 5)),
        lambda rng, b: (image(rng, b, 9, 2),),
    ),
    "flow_grid": (stn_jax.flow_grid, lambda rng, b: (image(rng, b, 4, 5, 2),)),
    "basis_grid": (
        lambda theta: stn_jax.basis_grid(theta, jnp.ones((4, 5, 3))),
        lambda rng, b: (image(rng, b, 2, 3),),
    ),
    "inside": (
        lambda grid: stn_jax.inside(grid, (4, 5)),
        lambda rng, b: (grid(rng, b, 3, 3, 2),),
    ),
    "bilinear_sample": (
        stn_jax.bilinear_sample,
        lambda rng, b: (image(rng, b, 4, 5, 2), grid(rng, b, 3, 3, 2)),
    ),
    "volumes": (
        partial(stn_jax.sample, padding_mode="reflection"),
        lambda rng, b: (image(rng, b, 3, 4, 5, 2), grid(rng, b, 2, 3, 3, 3)),
    ),
    "one image, many grids": (
        lambda grid: stn_jax.sample(jnp.ones((4, 5, 1)), grid, method="bicubic"),
        lambda rng, b: (grid(rng, b, 3, 3, 2),),
    ),
    "splines": (
        partial(stn_jax.sample, method="bspline3", padding_mode="wrap"),
        lambda rng, b: (image(rng, b, 4, 5, 2), grid(rng, b, 3, 3, 2)),
    ),
    "warp": (
        lambda image, params: stn_jax.warp(image, Projective(), params),
        lambda rng, b: (image(rng, b, 4, 5, 2), near(Projective(), rng, b)),
    ),
    "fit_affine": (
        stn_jax.fit_affine,
        lambda rng, b: (image(rng, b, 6, 2), grid(rng, b, 6, 2)),
    ),
}
SLOW = ("splines", "warp", "fit_affine", "one image, many grids", "volumes")


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in CASES],
)
def test_functions(rng, name):
    function, make = CASES[name]
    loaded = round_trip(function, *make(rng, 2))
    for batch in (1, 3):
        arguments = make(rng, batch)
        np.testing.assert_allclose(
            loaded.call(*arguments), function(*arguments), atol=1e-5
        )


@pytest.mark.slow
def test_gradients_are_exported_along(rng):
    family = ThinPlateSpline((3, 3))
    images, params = image(rng, 3, 4, 5, 1), near(family, rng, 3)

    def warp(images, params):
        return stn_jax.warp(images, family, params)

    loaded = round_trip(warp, images, params, vjp_order=1)
    for which in (0, 1):
        ours = jax.grad(lambda *a: (loaded.call(*a) ** 2).sum(), which)(images, params)
        slope = jax.grad(lambda *a: (warp(*a) ** 2).sum(), which)(images, params)
        np.testing.assert_allclose(ours, slope, atol=1e-5)


@pytest.mark.parametrize("channels", [1, pytest.param(9, marks=pytest.mark.slow)])
def test_gradients_with_one_image_for_as_many_grids_as_there_are(rng, channels):
    picture, grids = image(rng, 5, 6, channels), grid(rng, 3, 4, 4, 2)

    def gradients(picture, grids):
        def loss(*arrays):
            return (stn_jax.bilinear_sample(*arrays) ** 2).sum()

        return jax.grad(loss, (0, 1))(picture, grids)

    (b,) = export.symbolic_shape("b")
    open_ended = jax.ShapeDtypeStruct((b, 4, 4, 2), jnp.float32)
    exported = export.export(jax.jit(gradients), platforms=PLATFORMS)
    loaded = export.deserialize(exported(picture, open_ended).serialize())
    expected = gradients(picture, grids)
    for ours, theirs in zip(loaded.call(picture, grids), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("transform", [Affine(), ThinPlateSpline((3, 3))], ids=str)
def test_a_spatial_transformer(rng, transform):
    from stn_jax.nnx import ConvLocalization, SpatialTransformer

    net = ConvLocalization((20, 22, 1), kernel_size=3, rngs=nnx.Rngs(0))
    options = {"features": net.features, "rngs": nnx.Rngs(1)}
    st = SpatialTransformer(net, transform, (8, 9), **options)
    kernel = 0.01 * rng.normal(size=st.regression.kernel.shape)
    st.regression.kernel[...] = jnp.asarray(kernel, jnp.float32)
    graph, state = nnx.split(st)
    loaded = round_trip(
        lambda images: nnx.merge(graph, state)(images), np.zeros((2, 20, 22, 1))
    )
    images = image(rng, 5, 20, 22, 1)
    np.testing.assert_allclose(loaded.call(images), st(images), atol=1e-4)


@pytest.mark.slow
def test_a_linen_spatial_transformer(rng):
    from stn_jax.linen import SpatialTransformer

    class Mean(linen.Module):
        @linen.compact
        def __call__(self, images):
            return images.mean(axis=(1, 2))

    st, images = SpatialTransformer(Mean()), image(rng, 5, 6, 7, 2)
    variables = st.init(jax.random.key(0), images)
    loaded = round_trip(lambda images: st.apply(variables, images), images)
    np.testing.assert_allclose(loaded.call(images), images, atol=1e-5)

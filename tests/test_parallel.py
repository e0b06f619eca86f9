"""Transformers side by side, from one localization network, in NNX and in Linen."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import export

from stn_jax import linen
from stn_jax.nnx import (
    DenseLocalization,
    ParallelSpatialTransformers,
    SpatialTransformer,
)
from stn_jax.transforms import Affine, Attention, ThinPlateSpline, tiles

HALF = Attention(scale=0.5)
SHAPE = (12, 16, 3)


def parallel(transform=HALF, start=None, size=(6, 8), shape=SHAPE, **options):
    """Two transformers side by side, which start at the halves of the image."""
    start = tiles(transform, (1, 2)) if start is None else start
    net = DenseLocalization(shape, hidden=(8,), rngs=nnx.Rngs(0))
    options = {"features": net.features, "rngs": nnx.Rngs(1), **options}
    return ParallelSpatialTransformers(net, transform, start, size, **options)


def trained(rng, **options):
    """Transformers whose parameters depend on the images."""
    st = parallel(**options)
    kernel = rng.normal(size=st.regression.kernel.shape, scale=0.1)
    st.regression.kernel[...] = jnp.asarray(kernel, jnp.float32)
    return st


@pytest.fixture
def images(rng):
    return jnp.asarray(rng.uniform(size=(4, *SHAPE)), jnp.float32)


@pytest.mark.parametrize("concatenate", [False, True])
def test_untrained_transformers_return_their_windows(images, concatenate):
    left, right = images[:, 3:9, :8], images[:, 3:9, 8:]
    expected = (
        jnp.concatenate([left, right], axis=-1)
        if concatenate
        else jnp.stack([left, right], axis=1)
    )
    start = tiles(HALF, (1, 2))
    options = {"size": (6, 8), "concatenate": concatenate}
    nnx_module = parallel(**options)
    module = linen.ParallelSpatialTransformers(
        linen.DenseLocalization((8,)), HALF, start=start, **options
    )
    out, variables = module.init_with_output(jax.random.key(0), images)
    in_linen = module.apply(variables, images, method="localize"), out
    in_nnx = nnx_module.localize(images), nnx_module(images)
    for params, windows in (in_nnx, in_linen):
        np.testing.assert_array_equal(params, jnp.broadcast_to(start, (4, 2, 2)))
        np.testing.assert_allclose(windows, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("transform", "start"),
    [
        (HALF, None),
        (Affine(), None),
        (ThinPlateSpline((2, 3)), jnp.tile(ThinPlateSpline((2, 3)).identity, (3, 1))),
    ],
    ids=["attention", "affine", "spline"],
)
def test_they_are_as_many_transformers_with_one_localization(
    rng, images, transform, start
):
    """Values and all gradients, with one transformer after the other as the oracle."""
    st = trained(rng, transform=transform, start=start)
    count, size = st.count, transform.num_params
    graphdef, state = nnx.split(st)
    bar = jnp.asarray(rng.normal(size=(4, count, 6, 8, 3)), jnp.float32)

    def one_by_one(st, images):
        outputs = []
        for i in range(count):
            part = slice(i * size, (i + 1) * size)
            one = SpatialTransformer(
                st.localization, transform, (6, 8), features=8, rngs=nnx.Rngs(0)
            )
            one.regression.kernel[...] = st.regression.kernel[:, part]
            one.regression.bias[...] = st.regression.bias[part]
            outputs.append(one(images))
        return jnp.stack(outputs, axis=1)

    @partial(jax.jit, static_argnums=0)
    def value_and_gradients(function, state, images):
        apply = lambda state, images: function(nnx.merge(graphdef, state), images)  # noqa: E731
        out, pull = jax.vjp(apply, state, images)
        return out, pull(bar)

    ours = value_and_gradients(lambda st, images: st(images), state, images)
    expected = value_and_gradients(one_by_one, state, images)
    assert ours[0].shape == (4, count, 6, 8, 3)
    jax.tree.map(partial(np.testing.assert_allclose, atol=2e-4), ours, expected)


def test_linen_gives_the_same_numbers_for_the_same_weights(rng, images):
    st = trained(rng, concatenate=True)
    module = linen.ParallelSpatialTransformers(
        linen.DenseLocalization((8,)),
        HALF,
        (6, 8),
        start=tiles(HALF, (1, 2)),
        concatenate=True,
    )
    dense, regression = st.localization.layers.layers[1], st.regression
    weights = {
        "localization": {
            "Dense_0": {"kernel": dense.kernel[...], "bias": dense.bias[...]}
        },
        "regression": {"kernel": regression.kernel[...], "bias": regression.bias[...]},
    }
    found = module.apply({"params": weights}, images)
    np.testing.assert_allclose(found, st(images), atol=1e-6)


def test_the_images_are_not_copied_for_each_transformer():
    """Sixteen small windows of large feature maps take less memory than one copy."""
    images = jnp.ones((2, 128, 128, 8))
    start = jnp.tile(HALF.identity, (16, 1))
    net = lambda images: images[:, 0, 0]  # noqa: E731
    st = ParallelSpatialTransformers(
        net, HALF, start, (4, 4), features=8, rngs=nnx.Rngs(0)
    )
    graphdef, state = nnx.split(st)
    run = jax.jit(lambda state, images: nnx.merge(graphdef, state)(images))
    memory = run.lower(state, images).compile().memory_analysis()
    assert memory.temp_size_in_bytes < images.nbytes / 4


def test_volumes(rng):
    volumes = jnp.asarray(rng.uniform(size=(2, 4, 8, 8, 1)), jnp.float32)
    family = Affine(ndim=3)
    start = tiles(family, (2, 1, 2))
    st = parallel(family, start, (2, 4, 4), (4, 8, 8, 1), concatenate=True)
    quarters = [volumes[:, z : z + 2, 2:6, x : x + 4] for z in (0, 2) for x in (0, 4)]
    np.testing.assert_allclose(
        st(volumes), jnp.concatenate(quarters, axis=-1), atol=1e-5
    )


def test_the_size_of_the_images_by_default(images):
    assert parallel(size=None)(images).shape == (4, 2, *SHAPE)


def test_empty_batches():
    assert parallel()(jnp.ones((0, *SHAPE))).shape == (0, 2, 6, 8, 3)


def test_an_export_leaves_the_number_of_images_open(images):
    graphdef, state = nnx.split(parallel(concatenate=True))
    run = jax.jit(lambda images: nnx.merge(graphdef, state)(images))
    shape = jax.ShapeDtypeStruct(export.symbolic_shape("b, 12, 16, 3"), jnp.float32)
    program = export.deserialize(export.export(run)(shape).serialize())
    np.testing.assert_allclose(program.call(images), run(images), atol=1e-6)


@pytest.mark.parametrize("shape", [(2,), (2, 3), (0, 2), (1, 2, 2)])
@pytest.mark.parametrize("kind", ["nnx", "linen"])
def test_a_start_of_the_wrong_shape(shape, kind):
    net = linen.DenseLocalization()
    make = {
        "nnx": parallel,
        "linen": partial(linen.ParallelSpatialTransformers, net, HALF),
    }[kind]
    with pytest.raises(ValueError, match=r"start must have shape \(n, 2\), a row for"):
        make(start=jnp.zeros(shape))


def test_parameters_of_another_number_of_transformers(images):
    """The parameters may come from elsewhere, for any number of windows."""
    st = parallel()
    assert st.warp(images, jnp.zeros((4, 5, 2))).shape == (4, 5, 6, 8, 3)
    with pytest.raises(ValueError, match="leading axes must broadcast"):
        st.warp(images, jnp.zeros((3, 2, 2)))

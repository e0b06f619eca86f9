"""The transformer in NNX and in Linen, and that the two are one."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from stn_jax import identity_grid, linen, warp
from stn_jax.nnx import ConvLocalization, DenseLocalization, SpatialTransformer
from stn_jax.transforms import Affine, ThinPlateSpline

FAMILIES = [Affine(), ThinPlateSpline((4, 4))]


def transformer(family=Affine(), shape=(14, 16, 3), size=None, **options):
    net = ConvLocalization(shape, downsample=1, kernel_size=3, rngs=nnx.Rngs(0))
    return SpatialTransformer(
        net, family, size, features=net.features, rngs=nnx.Rngs(1), **options
    )


@pytest.fixture
def images(rng):
    return jnp.array(rng.uniform(size=(4, 14, 16, 3)), jnp.float32)


@pytest.mark.parametrize("family", FAMILIES, ids=str)
@pytest.mark.parametrize("align_corners", [False, True])
def test_an_untrained_transformer_passes_its_images_on(images, family, align_corners):
    st = transformer(family, align_corners=align_corners)
    params = st.localize(images)
    chex.assert_trees_all_equal(params, jnp.tile(family.identity, (4, 1)))
    chex.assert_trees_all_close(st(images), images, atol=2e-5)


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_it_learns_where_to_look(rng, family):
    """A blob right of the center: the transformer learns to look to the right."""
    y, x = np.mgrid[:14, :16]
    blob = np.exp(-((x - 10) ** 2 + (y - 7) ** 2) / 8)
    images = jnp.array(blob[None, ..., None], jnp.float32) + jnp.zeros((2, 1, 1, 1))
    target = jnp.roll(images, -3, axis=2)
    st = transformer(family, (14, 16, 1))
    graphdef, params = nnx.split(st)
    optimizer = optax.adam(3e-3)

    @jax.jit
    def step(params, state):
        def loss_fn(params):
            return ((nnx.merge(graphdef, params)(images) - target) ** 2).mean()

        loss, grads = jax.value_and_grad(loss_fn)(params)
        updates, state = optimizer.update(grads, state)
        return optax.apply_updates(params, updates), state, loss

    state, losses = optimizer.init(params), []
    for _ in range(60):
        params, state, loss = step(params, state)
        losses.append(float(loss))
    assert losses[-1] < losses[0] / 20


def test_the_size_of_the_output_and_parameters_fed_forward(images):
    st = transformer(size=(5, 6))
    assert st(images).shape == (4, 5, 6, 3)
    params = st.localize(images)

    def ramp(size):  # the same picture at any resolution
        picture = identity_grid(size) @ jnp.array([[1.0], [-0.5]])
        return jnp.broadcast_to(picture, (4, *size, 1))

    inward = params * jnp.array([0.5, 1, 1, 1, 0.5, 1])  # away from the edges
    seen = st.warp(ramp((14, 16)), inward)
    chex.assert_trees_all_close(st.warp(ramp((28, 40)), inward), seen, atol=1e-5)
    expected = 0.5 * ramp((5, 6))
    chex.assert_trees_all_close(seen, expected, atol=1e-5)
    moved = params.at[:, 2].set(9.0)
    chex.assert_trees_all_equal(st.warp(images, moved), jnp.zeros((4, 5, 6, 3)))


def test_the_padding_mode_is_passed_on(images):
    moved = jnp.tile(jnp.array([1.0, 0, 9, 0, 1, 0]), (4, 1))
    seen = transformer(padding_mode="border").warp(images, moved)
    np.testing.assert_allclose(
        seen, np.tile(images[:, :, -1:], (1, 1, 16, 1)), atol=1e-5
    )


def test_all_options_of_the_sampler_are_passed_on(images):
    moved = jnp.tile(jnp.array([1.0, 0, 0.3, 0, 1, 0.1]), (4, 1))
    options = {"method": "bicubic", "fill_value": 0.5, "outside": "fill"}
    expected = warp(images, Affine(), moved, **options)
    assert (expected == 0.5).any()
    chex.assert_trees_all_equal(transformer(**options).warp(images, moved), expected)
    twin = linen.SpatialTransformer(lambda x: x, **options)
    chex.assert_trees_all_equal(twin.apply({}, images, moved, method="warp"), expected)


def test_volumes():
    net = DenseLocalization((4, 5, 6, 1), rngs=nnx.Rngs(0))
    st = SpatialTransformer(net, Affine(ndim=3), features=32, rngs=nnx.Rngs(1))
    volumes = jnp.arange(240.0).reshape(2, 4, 5, 6, 1)
    chex.assert_trees_all_close(st(volumes), volumes, atol=1e-3)
    conv = ConvLocalization((8, 8, 8, 1), downsample=1, kernel_size=2, rngs=nnx.Rngs(0))
    assert conv(jnp.ones((2, 8, 8, 8, 1))).shape == (2, 20)


def test_any_function_may_localize(images):
    def brightness(images):
        return images.mean(axis=(1, 2))

    st = SpatialTransformer(brightness, features=3, rngs=nnx.Rngs(0))
    chex.assert_trees_all_close(st(images), images, atol=1e-5)


def test_half_precision_features_keep_theta_precise(images):
    """A bfloat16 theta would be off by pixels."""
    st = SpatialTransformer(
        lambda x: x.mean(axis=(1, 2)).astype(jnp.bfloat16), features=3, rngs=nnx.Rngs(0)
    )
    assert st.localize(images).dtype == jnp.float32


def test_features_of_the_wrong_shape_are_an_error(images):
    for localization in (lambda x: x, lambda x: x.mean(axis=(1, 2, 3))[:, None]):
        st = SpatialTransformer(localization, features=3, rngs=nnx.Rngs(0))
        with pytest.raises(ValueError, match=r"localization must return \(B, 3\)"):
            st(images)
    twin = linen.SpatialTransformer(lambda x: x)
    with pytest.raises(ValueError, match=r"localization must return \(B, features\)"):
        twin.init(jax.random.key(0), images)


def test_a_size_that_is_none_is_an_error_at_once():
    with pytest.raises(ValueError, match=r"size must be .* got \(0, 4\)"):
        SpatialTransformer(lambda x: x, size=(0, 4), features=3, rngs=nnx.Rngs(0))


def test_images_too_small_for_the_convolutions():
    with pytest.raises(ValueError, match="too small for 2 convolutions of size 5"):
        ConvLocalization((8, 8, 1), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="too small for 2 convolutions of size 5"):
        linen.ConvLocalization().init(jax.random.key(0), jnp.ones((1, 12, 12, 1)))


# Linen


def linen_params(st):
    """The NNX transformer's weights under Linen's names."""

    def weights(layer):
        return {"kernel": layer.kernel[...], "bias": layer.bias[...]}

    counts, localization = {}, {}
    for layer in st.localization.layers.layers:
        if isinstance(layer, nnx.Conv | nnx.Linear):
            kind = "Conv" if isinstance(layer, nnx.Conv) else "Dense"
            name = f"{kind}_{counts.setdefault(kind, 0)}"
            counts[kind] += 1
            localization[name] = weights(layer)
    return {"localization": localization, "regression": weights(st.regression)}


@pytest.mark.parametrize("family", FAMILIES, ids=str)
@pytest.mark.parametrize("kind", ["conv", "dense"])
def test_linen_gives_the_same_numbers_for_the_same_weights(images, family, kind):
    if kind == "conv":
        st = transformer(family, size=(7, 9), padding_mode="border")
        net = linen.ConvLocalization(downsample=1, kernel_size=3)
    else:
        dense = DenseLocalization((14, 16, 3), rngs=nnx.Rngs(0))
        st = SpatialTransformer(
            dense, family, (7, 9), features=32, padding_mode="border", rngs=nnx.Rngs(1)
        )
        net = linen.DenseLocalization()
    kernel = st.regression.kernel
    kernel[...] = 0.1 * jax.random.normal(jax.random.key(2), kernel.shape)
    twin = linen.SpatialTransformer(net, family, (7, 9), padding_mode="border")
    variables = {"params": linen_params(st)}
    assert jax.tree.structure(variables) == jax.tree.structure(
        twin.init(jax.random.key(0), images)
    )
    params = twin.apply(variables, images, method="localize")
    assert float(jnp.abs(params - family.identity).max()) > 0.01  # it does move
    chex.assert_trees_all_close(params, st.localize(images), atol=1e-5)
    chex.assert_trees_all_close(twin.apply(variables, images), st(images), atol=1e-5)
    warped = twin.apply(variables, images, params, method="warp")
    chex.assert_trees_all_close(warped, st(images), atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_an_untrained_linen_transformer_passes_its_images_on(images, family):
    st = linen.SpatialTransformer(linen.DenseLocalization(), family)
    variables = st.init(jax.random.key(0), images)
    chex.assert_trees_all_close(st.apply(variables, images), images, atol=2e-5)

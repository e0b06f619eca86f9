"""The transformer in NNX and in Linen: options, localizations, equal results."""

import pickle
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx

from stn_jax import Sampler, identity_grid, linen, warp
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
def test_an_untrained_transformer_returns_its_images(images, family, align_corners):
    st = transformer(family, align_corners=align_corners)
    params = st.localize(images)
    chex.assert_trees_all_equal(params, jnp.tile(family.identity, (4, 1)))
    chex.assert_trees_all_close(st(images), images, atol=2e-5)


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_a_transformer_learns_to_shift(rng, family):
    """A blob right of the center: the transformer learns to sample to the right."""
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
    warped = st.warp(ramp((14, 16)), inward)
    chex.assert_trees_all_close(st.warp(ramp((28, 40)), inward), warped, atol=1e-5)
    expected = 0.5 * ramp((5, 6))
    chex.assert_trees_all_close(warped, expected, atol=1e-5)
    moved = params.at[:, 2].set(9.0)
    chex.assert_trees_all_equal(st.warp(images, moved), jnp.zeros((4, 5, 6, 3)))


def test_the_padding_mode_is_passed_on(images):
    moved = jnp.tile(jnp.array([1.0, 0, 9, 0, 1, 0]), (4, 1))
    warped = transformer(padding_mode="border").warp(images, moved)
    np.testing.assert_allclose(
        warped, np.tile(images[:, :, -1:], (1, 1, 16, 1)), atol=1e-5
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
    for st in each_api(lambda x: x.mean(axis=(0, 1, 2))[None], features=3):
        with pytest.raises(ValueError, match=r"got \(1, 3\) for images \(4, 14, 16, 3"):
            st(images)


def test_features_that_are_no_array_are_an_error(images):
    for st in each_api(lambda x: (x.mean(axis=(1, 2)), x), features=3):
        with pytest.raises(
            TypeError, match=r"localization must return an array .* tuple"
        ):
            st(images)


def test_images_without_a_channel_axis_are_named(images):
    for st in each_api(lambda x: x.mean(axis=(1, 2)), features=3):
        with pytest.raises(ValueError, match=r"images must be \(B, H, W, C\)") as info:
            st(images[..., 0])
        assert (
            "got shape (4, 14, 16). Without a channel axis: images[..., None]"
            in str(info.value)
        )
        with pytest.raises(ValueError, match=r"images must be .* got shape \(14,\)"):
            st(images[0, :, 0, 0])


def each_api(localization, family=Affine(), features=3, **options):
    """The transformer of both APIs as a function of images; Linen's parameters are
    new.
    """
    st = SpatialTransformer(
        localization, family, features=features, rngs=nnx.Rngs(0), **options
    )
    twin = linen.SpatialTransformer(localization, family, **options)

    def apply(images):
        return twin.init_with_output(jax.random.key(0), images)[0]

    return st, apply


# options and the sampler


def test_an_invalid_size_is_refused_when_the_module_is_made():
    with pytest.raises(ValueError, match=r"size must be .* got \(0, 4\)"):
        SpatialTransformer(lambda x: x, size=(0, 4), features=3, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    ("family", "message"),
    [
        (Affine, r"got the class Affine: make one, Affine\(\)"),
        ("affine", r"such as Affine\(\) .* got 'affine'"),
    ],
)
def test_a_transform_that_is_no_family(family, message):
    with pytest.raises(TypeError, match=f"transform must be a family .*{message}"):
        SpatialTransformer(lambda x: x, family, features=3, rngs=nnx.Rngs(0))
    with pytest.raises(TypeError, match=f"transform must be a family .*{message}"):
        linen.SpatialTransformer(lambda x: x, family)


def makers():
    """How each API makes a transformer with some options."""
    return (
        lambda **options: SpatialTransformer(
            lambda x: x, features=3, rngs=nnx.Rngs(0), **options
        ),
        lambda **options: linen.SpatialTransformer(lambda x: x, **options),
    )


@pytest.mark.parametrize("make", makers(), ids=["nnx", "linen"])
def test_options_that_are_refused(make):
    with pytest.raises(TypeError, match=r"'?padding'?"):
        make(padding="border")
    with pytest.raises((TypeError, ValueError), match="coordinates"):
        make(coordinates="pixel")
    with pytest.raises(ValueError, match="coordinates must be"):
        make(sampler=Sampler(coordinates="pixel"))
    with pytest.raises(TypeError, match=r"either a sampler .* got sampler and method"):
        make(sampler=Sampler(), method="bicubic")
    with pytest.raises(TypeError, match="sampler must be a Sampler; got 'bicubic'"):
        make(sampler="bicubic")
    with pytest.raises(ValueError, match="never shows"):
        make(fill_value=0.5)


SAMPLERS = [
    {"method": "bicubic", "padding_mode": "border"},
    {"padding_mode": "constant", "fill_value": 0.5, "align_corners": True},
    {"outside": "fill", "fill_value": jnp.array([0.5, 1.0, 2.0])},
]


@pytest.mark.parametrize("options", SAMPLERS, ids=["method", "number", "array"])
def test_a_sampler_instead_of_its_options(images, options):
    params = jnp.tile(jnp.array([1.0, 0, 0.3, 0, 1, 0.1]), (4, 1))
    expected = warp(images, Affine(), params, **options)
    sampler = Sampler(**options)
    st, twin = (make(sampler=sampler) for make in makers())
    chex.assert_trees_all_close(st.warp(images, params), expected, atol=1e-6)
    out = twin.apply({}, images, params, method="warp")
    chex.assert_trees_all_close(out, expected, atol=1e-6)


def test_an_array_as_fill_value_under_flaxs_transforms(images):
    """NNX refuses a frozen pytree with an array within a module."""
    fill = jnp.array([0.5, 1.0, 2.0])
    for options in (
        {"padding_mode": "constant", "fill_value": fill},
        {"sampler": Sampler(padding_mode="constant", fill_value=fill)},
    ):
        st = SpatialTransformer(
            lambda x: x.mean(axis=(1, 2)), features=3, rngs=nnx.Rngs(0), **options
        )
        st.regression.bias[...] = st.regression.bias[...].at[2].set(9.0)
        expected = jnp.broadcast_to(fill, images.shape)
        chex.assert_trees_all_close(st(images), expected, atol=1e-6)
        jitted = nnx.jit(lambda module, images: module(images))(st, images)
        chex.assert_trees_all_close(jitted, expected, atol=1e-6)
        merged = nnx.merge(*nnx.split(st))
        chex.assert_trees_all_close(merged(images), expected, atol=1e-6)
        slope = nnx.grad(lambda module: (module(images) ** 2).sum())(st)
        bias = nnx.to_pure_dict(slope)["regression"]["bias"]
        assert jnp.isfinite(bias).all()


def test_a_linen_transformer_is_cloned_and_pickled(images):
    st = linen.SpatialTransformer(
        linen.DenseLocalization(), method="bicubic", padding_mode="border"
    )
    variables = st.init(jax.random.key(0), images)
    variables["params"]["regression"]["bias"] += 0.1
    expected = st.apply(variables, images)
    assert st.clone() == st
    sampled = st.clone(method="nearest").apply(variables, images)
    assert jnp.abs(sampled - expected).max() > 0.01
    for copy in (
        st.clone(),
        pickle.loads(pickle.dumps(st)),
        st.clone(
            method="bilinear",
            padding_mode="zeros",
            sampler=Sampler("bicubic", "border"),
        ),
    ):
        chex.assert_trees_all_close(copy.apply(variables, images), expected)
    assert pickle.loads(pickle.dumps(st.clone(sampler=None))) == st


# the localization


@pytest.mark.parametrize("dense", [False, True])
def test_empty_batches(images, dense):
    none = images[:0]
    st = transformer()
    net = linen.ConvLocalization(downsample=1, kernel_size=3)
    if dense:
        net = DenseLocalization((14, 16, 3), rngs=nnx.Rngs(0))
        st = SpatialTransformer(net, features=net.features, rngs=nnx.Rngs(1))
        net = linen.DenseLocalization()
    assert st(none).shape == none.shape
    twin = linen.SpatialTransformer(net)
    variables = twin.init(jax.random.key(0), images)
    assert twin.apply(variables, none).shape == none.shape


@pytest.mark.parametrize("size", [(8, 8), (12, 12), (4, 9), (2, 2), (7, 7, 7)])
def test_the_remedy_for_images_too_small_for_the_convolutions(size):
    images, key = jnp.ones((1, *size, 1)), jax.random.key(0)
    with pytest.raises(ValueError, match="too small for 2 convolutions with ") as info:
        ConvLocalization((*size, 1), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="too small for 2 convolutions with ") as twin:
        linen.ConvLocalization().init(key, images)
    assert str(info.value) == str(twin.value)
    remedy = re.search(r"these fit: (downsample=\d+, kernel_size=\d+)", str(info.value))
    options = eval(f"dict({remedy[1]})")
    net = ConvLocalization((*size, 1), rngs=nnx.Rngs(0), **options)
    assert net(images).shape == (1, 20)
    out, _ = linen.ConvLocalization(**options).init_with_output(key, images)
    assert out.shape == (1, 20)


def test_no_images_of_one_pixel_fit_two_convolutions():
    with pytest.raises(ValueError, match="fewer channels, one number for each conv"):
        ConvLocalization((1, 1, 1), rngs=nnx.Rngs(0))
    net = ConvLocalization(
        (1, 1, 1), channels=(4,), downsample=1, kernel_size=1, rngs=nnx.Rngs(0)
    )
    assert net(jnp.ones((2, 1, 1, 1))).shape == (2, 20)


def test_keywords_reach_an_nnx_localization(images):
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.norm = nnx.BatchNorm(3, rngs=rngs)
            self.drop = nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, images, *, train):
            x = self.norm(images.mean(axis=(1, 2)), use_running_average=not train)
            return self.drop(x, deterministic=not train)

    st = SpatialTransformer(Net(nnx.Rngs(0)), features=3, rngs=nnx.Rngs(1))
    st.regression.kernel[...] = jnp.ones((3, 6))
    before = jnp.array(st.localization.norm.mean[...])
    first, again = (st(images, train=False) for _ in range(2))
    chex.assert_trees_all_equal(first, again)
    chex.assert_trees_all_equal(st.localization.norm.mean[...], before)
    params = [st.localize(images, train=True) for _ in range(2)]
    assert jnp.abs(params[0] - params[1]).max() > 0.01, "dropout is off"
    assert jnp.abs(st.localization.norm.mean[...] - before).max() > 1e-4
    assert st(images, train=True).shape == images.shape
    with pytest.raises(TypeError, match="train"):
        st(images)


def test_keywords_reach_a_linen_localization(images):
    class Net(nn.Module):
        @nn.compact
        def __call__(self, images, *, train):
            x = nn.BatchNorm(use_running_average=not train)(images.mean(axis=(1, 2)))
            return nn.Dropout(0.5, deterministic=not train)(x)

    st = linen.SpatialTransformer(Net())
    variables = st.init(jax.random.key(0), images, train=False)
    variables["params"]["regression"]["kernel"] = jnp.ones((3, 6))
    assert st.apply(variables, images, train=False).shape == images.shape

    def trained(key, method):
        rngs, mutable = {"dropout": jax.random.key(key)}, ["batch_stats"]
        options = {"train": True, "rngs": rngs, "mutable": mutable, "method": method}
        return st.apply(variables, images, **options)

    (first, changed), (second, _) = (trained(key, "localize") for key in (1, 2))
    assert jnp.abs(first - second).max() > 0.01, "dropout is off"
    chex.assert_trees_all_equal_structs(
        changed["batch_stats"], variables["batch_stats"]
    )
    mean = changed["batch_stats"]["localization"]["BatchNorm_0"]["mean"]
    assert jnp.abs(mean).max() > 1e-4
    assert trained(1, "__call__")[0].shape == images.shape


def test_where_the_parameters_of_a_linen_localization_are(images):
    """In the transformer at the top; in a parent beside the transformers."""

    class Parent(nn.Module):
        @nn.compact
        def __call__(self, images):
            net = linen.DenseLocalization(hidden=(4,), name="net")
            first = linen.SpatialTransformer(net, name="first")(images)
            return linen.SpatialTransformer(net, name="second")(first)

    key = jax.random.key(0)
    params = Parent().init(key, images)["params"]
    assert {name: sorted(layers) for name, layers in params.items()} == {
        "net": ["Dense_0"],
        "first": ["regression"],
        "second": ["regression"],
    }
    alone = linen.SpatialTransformer(linen.DenseLocalization(hidden=(4,)))
    assert sorted(alone.init(key, images)["params"]) == ["localization", "regression"]


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
def test_an_untrained_linen_transformer_returns_its_images(images, family):
    st = linen.SpatialTransformer(linen.DenseLocalization(), family)
    variables = st.init(jax.random.key(0), images)
    chex.assert_trees_all_close(st.apply(variables, images), images, atol=2e-5)

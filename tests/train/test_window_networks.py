"""Networks with windows: where these start, what they cost, what is shared."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from train.errors import ConfigError
from train.models import build
from train.specs import ModelSpec
from train.transformers import localize_images, logits_and_outputs, warped_size
from train.window_networks import LeanBackbone, Pooled

NAMES = ("cnn", "2xst_cnn-attention", "4xst_cnn-attention")


def model_of(name, network="cub_lean", side=64, channels=3, bound=None):
    return build(
        ModelSpec.parse(name),
        network,
        canvas=(side, side, channels),
        size=(28, 28),
        num_classes=100,
        parameters=1,
        bound=bound,
        seed=0,
    )


def flops_of(model, side=64):
    graphdef, state = nnx.split(model)
    images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    program = jax.jit(lambda s, x: nnx.merge(graphdef, s)(x))
    return program.lower(state, images).cost_analysis()["flops"]


def test_the_lean_models_cost_the_same_within_a_tenth():
    flops = [flops_of(nnx.eval_shape(lambda n=name: model_of(n))) for name in NAMES]
    assert max(flops) < 1.1 * min(flops)


@pytest.fixture(scope="module")
def images():
    return jax.random.uniform(jax.random.key(0), (2, 64, 64, 3))


@pytest.mark.parametrize(
    ("name", "corners"),
    [
        ("2xst_cnn-attention", [(16, 0), (16, 32)]),
        ("4xst_cnn-attention", [(0, 0), (0, 32), (32, 0), (32, 32)]),
    ],
)
def test_windows_start_as_tiles_of_the_image(name, corners, images):
    """At half the scale and half the size, a window is a part of the image."""
    model = model_of(name)
    graphdef, state = nnx.split(model)

    @jax.jit
    def outputs_of(state, images):
        model = nnx.merge(graphdef, state)
        return *logits_and_outputs(model, images), localize_images(model, images)

    logits, outputs, params = outputs_of(state, images)
    assert logits.shape == (2, 100)
    assert warped_size(model, (64, 64)) == (32, 32)
    parts = [images[:, y : y + 32, x : x + 32] for y, x in corners]
    for output, part in zip(outputs, parts, strict=True):
        np.testing.assert_allclose(output.warped, part, atol=1e-5)
        np.testing.assert_array_equal(output.params.shape, (2, 2))  # tx, ty alone

    @jax.jit
    def expected_of(state, parts):
        model = nnx.merge(graphdef, state)
        features = [
            getattr(model, f"network{index}")(part) for index, part in enumerate(parts)
        ]
        return model.classifier(jnp.concatenate(features, axis=-1))

    expected = expected_of(state, parts)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
    assert params.shape == (len(corners), 2, 2)


def test_all_windows_share_one_localization_network():
    paths = [
        path
        for path, part in nnx.iter_graph(model_of(NAMES[2]))
        if isinstance(part, nnx.Conv)
    ]
    owners = [path[0] for path in paths]
    assert owners.count("transformer") == 4  # three of the backbone, one of 1x1
    assert all(owners.count(f"network{index}") == 3 for index in range(4))


def test_features_that_an_activation_holds_down_still_tell_images_apart(images):
    localization = model_of(NAMES[1]).transformer.localization
    for layer in (localization.conv, localization.dense):
        layer.bias[...] = jnp.full_like(layer.bias[...], -100)
    assert (localization(images).std(axis=0) > 0).all()


def test_the_cnn_sees_the_image_in_as_many_pixels_as_a_window(images):
    model = model_of("cnn")
    small = np.asarray(images).reshape(2, 32, 2, 32, 2, 3).mean(axis=(2, 4))
    maps = model.network.backbone(jnp.asarray(small))
    expected = model.classifier(maps.max(axis=(1, 2)))
    np.testing.assert_allclose(model(images), expected, rtol=1e-5, atol=1e-5)


def test_features_are_pooled_by_the_mean_or_the_maximum(images):
    backbone = LeanBackbone(4, nnx.Rngs(0))
    maps = np.asarray(backbone(images))
    for by_maximum, expected in ((False, maps.mean((1, 2))), (True, maps.max((1, 2)))):
        np.testing.assert_allclose(
            Pooled(backbone, by_maximum)(images), expected, rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize(
    ("name", "side"),
    [
        (NAMES[0], 448),
        *(
            pytest.param(name, side, marks=pytest.mark.slow)
            for name in NAMES[1:]
            for side in (224, 448)
        ),
    ],
)
def test_the_papers_windows_have_224_pixels_and_a_resnet_each(name, side):
    model = nnx.eval_shape(lambda: model_of(name, "cub", side))
    assert warped_size(model, (side, side)) == (
        (side,) * 2 if name == "cnn" else (224,) * 2
    )
    graphdef, state = nnx.split(model)
    images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    logits = jax.eval_shape(lambda s, x: nnx.merge(graphdef, s)(x), state, images)
    assert logits.shape == (1, 100)
    resnets = {"cnn": 1, "2xst_cnn-attention": 3, "4xst_cnn-attention": 5}[name]
    kinds = [type(part).__name__ for _, part in nnx.iter_graph(model)]
    assert kinds.count("ResNet") == resnets


def test_dropout_drops_70_percent_of_the_features_in_training():
    assert nnx.eval_shape(lambda: model_of("cnn", "cub", 224)).classifier.drops
    lean = model_of("cnn")
    x, keys = jnp.ones((2, 100)), jax.random.split(jax.random.key(0))
    np.testing.assert_array_equal(lean.classifier(x, keys), lean.classifier(x))
    lean.classifier.drops = True
    lean.classifier.linear.kernel[...] = jnp.eye(100)
    both = lean.classifier(x, keys)
    dropped = both[0]
    kept = np.asarray(dropped) > 0
    assert 15 <= kept.sum() <= 45
    np.testing.assert_allclose(np.asarray(dropped)[kept], 1 / 0.3, rtol=1e-5)
    assert (both[0] != both[1]).any()
    alone = lean.classifier(x[1:], keys[1:])  # an image's key decides
    np.testing.assert_array_equal(alone, both[1:])


def test_other_models_and_images_are_refused():
    with pytest.raises(
        ConfigError, match=r"are cnn, .* and 4xst_cnn-attention; got st_c"
    ):
        model_of("st_cnn-affine")
    with pytest.raises(ConfigError, match=r"needs images in color; got"):
        model_of("cnn", channels=1)
    with pytest.raises(ConfigError, match=r"--bound does not go with windows"):
        model_of(NAMES[1], bound=1.0)
    with pytest.raises(ConfigError, match=r"2xst_cnn-attention needs --network cub"):
        model_of("2xst_cnn-attention", "lean")

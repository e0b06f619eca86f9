"""The networks for house numbers, against appendix A.5 of the paper."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from train.errors import ConfigError
from train.models import build, count_parameters
from train.specs import ModelSpec
from train.transformers import logits_and_outputs

# conv[N,w,stride,pad], as the paper writes it, and what follows
PAPER = (48, "max", 64, 128, "max", 160, 192, "max", 192, 192, "max", 192)
NAMES = ("cnn", "st_cnn-affine", "multi_st_cnn-affine")


def model_of(name, network="svhn_lean", side=64, places=5):
    return build(
        ModelSpec.parse(name),
        network,
        canvas=(side, side, 3),
        size=(28, 28),
        num_classes=11,
        places=places,
        parameters=1,
        seed=0,
    )


def costs(side, divisor=1):
    """Parameters and multiply-adds of the paper's CNN, layer by layer."""
    parameters = adds = 0
    channels, edge = 3, side
    for layer in PAPER:
        if layer == "max":
            edge //= 2
            continue
        width = layer // divisor
        parameters += 25 * channels * width + width
        adds += 25 * channels * width * edge**2
        channels = width
    inputs = channels * edge**2
    for outputs in (3072 // divisor, 3072 // divisor, 55):
        parameters += (inputs + 1) * outputs
        adds += inputs * outputs
        inputs = outputs
    return parameters, adds


@pytest.mark.parametrize("side", [64, 128])
@pytest.mark.parametrize(("network", "divisor"), [("svhn", 1), ("svhn_lean", 8)])
def test_the_cnn_has_the_papers_layers(side, network, divisor):
    model = nnx.eval_shape(lambda: model_of("cnn", network, side))
    assert count_parameters(model) == costs(side, divisor)[0]


def test_the_papers_cnn_takes_08_billion_multiply_adds_and_the_lean_one_a_sixteenth():
    paper, lean = costs(64)[1], costs(64, 8)[1]
    assert 0.75e9 < paper < 0.85e9
    assert lean < paper / 16
    for name in NAMES:  # by XLA, transformers included
        model = nnx.eval_shape(lambda name=name: model_of(name))
        graphdef, state = nnx.split(model)
        images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
        program = jax.jit(lambda s, x, g=graphdef: nnx.merge(g, s)(x))
        flops = program.lower(state, images).cost_analysis()["flops"]
        assert flops / 2 < paper / 16  # XLA leaves out products with the padding


@pytest.fixture(scope="module")
def images():
    return jax.random.uniform(jax.random.key(0), (3, 64, 64, 3))


@pytest.mark.parametrize("name", NAMES)
def test_untrained_transformers_change_nothing(name, images):
    """They start at the identity, so the logits are those of the CNN within."""
    graphdef, state = nnx.split(model_of(name))

    @jax.jit
    def both(state, images):
        model = nnx.merge(graphdef, state)
        cnn = model if name == "cnn" else model.classifier
        return *logits_and_outputs(model, images), cnn(images)

    logits, outputs, expected = both(state, images)
    assert logits.shape == (3, 5, 11)
    counts = {"cnn": 0, "st_cnn-affine": 1, "multi_st_cnn-affine": 4}
    assert len(outputs) == counts[name]
    np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_multi_samples_the_image_and_the_maps_before_three_convolutions(images):
    graphdef, state = nnx.split(nnx.eval_shape(lambda: model_of(NAMES[2])))
    _, outputs = jax.eval_shape(
        lambda s: logits_and_outputs(nnx.merge(graphdef, s), images), state
    )
    shapes = [output.warped.shape[1:] for output in outputs]
    assert shapes == [(64, 64, 3), (32, 32, 6), (32, 32, 8), (16, 16, 16)]


def test_the_localization_networks_of_multi_have_two_layers_of_32_units():
    model = nnx.eval_shape(lambda: model_of("multi_st_cnn-affine", "svhn"))
    maps = [64 * 64 * 3, 32 * 32 * 48, 32 * 32 * 64, 16 * 16 * 128]
    each = [(n + 1) * 32 + 33 * 32 + 33 * 6 for n in maps]
    assert count_parameters(model) == costs(64)[0] + sum(each)


def test_labels_of_one_class(images):
    graphdef, state = nnx.split(
        nnx.eval_shape(lambda: model_of("st_cnn-affine", places=None))
    )
    logits = jax.eval_shape(lambda s: nnx.merge(graphdef, s)(images), state)
    assert logits.shape == (3, 11)


@pytest.mark.parametrize("drops", [True, False])
def test_dropout_is_that_of_training_in_the_papers_network(drops):
    network = "svhn" if drops else "svhn_lean"
    assert nnx.eval_shape(lambda: model_of("cnn", network, side=16)).drops == drops
    model, images = model_of("cnn", side=16), jnp.ones((1, 16, 16, 3))
    model.drops = drops
    graphdef, state = nnx.split(model)
    run = jax.jit(lambda keys=None: nnx.merge(graphdef, state)(images, keys))
    plain = run()
    np.testing.assert_array_equal(plain, run())
    first, second = (run(jax.random.key(seed)[None]) for seed in (0, 1))
    assert bool((first != second).any()) == drops
    assert bool((first != plain).any()) == drops


def test_the_first_convolution_is_not_dropped():
    model = model_of("cnn", side=16)
    model.drops = True
    first, second, *_ = model.stages(jax.random.key(0)[None])
    x = first(jnp.ones((1, 16, 16, 3)))
    np.testing.assert_array_equal(x, model.stages()[0](jnp.ones((1, 16, 16, 3))))
    kept = np.asarray(second(x) != 0)
    plain = np.asarray(model.stages()[1](x) != 0)
    assert 0.3 < kept.sum() / plain.sum() < 0.7


def test_other_models_are_refused():
    with pytest.raises(
        ConfigError, match=r"the networks of A.5 are cnn, .*; got st_fcn"
    ):
        model_of("st_fcn-affine")
    for network in ("lean", "paper", "tutorial", "cub_lean"):
        with pytest.raises(ConfigError, match=r"labels of 5 places, .*, use svhn"):
            model_of("cnn", network)
    with pytest.raises(ValueError, match="no pixel is left"):
        model_of("cnn", side=8)

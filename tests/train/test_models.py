"""The models: their sizes, layers and transformers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from trainings import CNN, SETUP, ST_CNN, few

from train.data import load
from train.initial import initial_model
from train.models import build, count_parameters
from train.specs import ModelSpec


@pytest.fixture(scope="module")
def digits():
    return few(load("digits"), 60)


NAMES = ("cnn", "st_cnn-affine", "st_cnn-tps")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("network", ["lean", "deep", "paper"])
@pytest.mark.parametrize("canvas", [28, 42])
def test_models_use_their_budget(name, network, canvas):
    budget = 400_000 if network == "paper" else 200_000
    model = nnx.eval_shape(
        lambda: build(
            ModelSpec.parse(name),
            network,
            canvas=(canvas, canvas, 1),
            size=(28, 28),
            num_classes=10,
            parameters=budget,
            seed=0,
        )
    )
    assert 0.95 * budget < count_parameters(model) <= budget


@pytest.mark.parametrize(
    ("name", "network", "side"),
    [
        ("st_cnn-affine", "lean", 28),
        ("st_fcn-affine", "lean", 20),
        ("2xst_fcn-affine", "lean", 12),
        ("2xst_fcn-affine", "paper", 42),
    ],
)
def test_the_size_of_a_transformers_output(name, network, side):
    model = build(
        ModelSpec.parse(name),
        network,
        canvas=(42, 42, 2),
        size=(28, 28),
        num_classes=19,
        parameters=1_000_000,
        seed=0,
    )
    _, outputs = model.outputs(jnp.ones((3, 42, 42, 2)))
    assert {output.warped.shape for output in outputs} == {(3, side, side, 2)}
    assert len(outputs) == ModelSpec.parse(name).transformers


@pytest.mark.parametrize(
    ("name", "at_28", "at_42"), [("fcn", 784, 441), ("cnn", 3136, 1600)]
)
def test_large_canvases_are_pooled_before_layers_that_are_fully_connected(
    name, at_28, at_42
):
    def inputs(canvas):
        network = build(
            ModelSpec.parse(name),
            "deep",
            canvas=(canvas, canvas, 1),
            size=(28, 28),
            num_classes=10,
            parameters=400_000,
            seed=0,
        )
        assert network(jnp.ones((2, canvas, canvas, 1))).shape == (2, 10)
        return (network.hidden1 if name == "fcn" else network.dense).in_features

    assert (inputs(28), inputs(42)) == (at_28, at_42)


def test_the_papers_network_has_its_layers():
    model = build(
        ModelSpec("cnn", "tps", 1),
        "paper",
        canvas=(42, 42, 1),
        size=(28, 28),
        num_classes=10,
        parameters=400_000,
        seed=0,
    )
    localization = model.transformer0.localization.layers.layers
    kernels = [x.kernel[...].shape for x in localization if hasattr(x, "kernel")]
    assert kernels == [(5, 5, 1, 20), (5, 5, 20, 20), (320, 20)]
    assert model.transformer0.regression.kernel[...].shape == (20, 32)
    width = model.classifier.conv1.kernel[...].shape[-1]
    assert model.classifier.conv1.kernel[...].shape == (9, 9, 1, width)
    assert model.classifier.conv2.kernel[...].shape == (7, 7, width, width)
    assert model(jnp.ones((2, 42, 42, 1))).shape == (2, 10)


def test_a_budget_too_small_is_an_error():
    with pytest.raises(ValueError, match="--parameters 100 is too few: this model has"):
        build(
            CNN,
            "lean",
            canvas=(28, 28, 1),
            size=(28, 28),
            num_classes=10,
            parameters=100,
            seed=0,
        )


def test_bounded_parameters_stay_bounded(digits):
    setup = dataclasses.replace(SETUP, bound=0.5)
    model = initial_model(setup, ST_CNN, digits)
    images = jnp.asarray(digits.test.images[:4]) / 255
    transformer = model.transformer0
    identity = np.array([1.0, 0, 0, 0, 1, 0])
    np.testing.assert_allclose(transformer.localize(images)[0], identity, atol=1e-6)
    transformer.regression.bias[...] = jnp.array([1.1, 9, -9, 0, 99, 0])
    params = transformer.localize(images)[0]
    expected = identity + 0.5 * np.tanh(np.array([0.1, 9, -9, 0, 98, 0]) / 0.5)
    np.testing.assert_allclose(params, expected, atol=1e-5)


def test_layers_compute_in_bfloat16_and_transformations_in_float32(digits):
    """Parameters stay float32; the logits differ by the rounding of bfloat16."""
    config = dataclasses.replace(SETUP, precision="bfloat16")
    model = initial_model(config, ST_CNN, digits)
    exact = initial_model(SETUP, ST_CNN, digits)
    for leaf in nnx.to_flat_state(nnx.state(model)):
        assert leaf[1].dtype == jnp.float32
    images = jnp.asarray(digits.test.images[:20], float) / 255

    def outputs_of(model):
        graphdef, state = nnx.split(model)
        run = jax.jit(lambda state, images: nnx.merge(graphdef, state).outputs(images))
        return run(state, images)

    logits, (output,) = outputs_of(model)
    assert logits.dtype == jnp.bfloat16
    assert output.params.dtype == output.grid.dtype == jnp.float32
    wanted, _ = outputs_of(exact)
    error = jnp.abs(logits.astype(jnp.float32) - wanted).max()
    assert 1e-5 < error < 0.05 * jnp.abs(wanted).max()

"""Evaluation on the whole test set."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from trainings import CNN, config, few

from train import evaluate
from train.data import load
from train.evaluate import fixed_examples, images_per_call, predict
from train.initial import initial_model
from train.loop import fit


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def test_the_whole_test_set_is_evaluated(digits):
    """33 images in batches of 8: the last is not full, and none is dropped."""
    model = initial_model(config(), CNN, digits)
    images, _ = fixed_examples(few(digits, 33).test, "r")
    graphdef, state = nnx.split(model)
    stacked = jax.tree.map(lambda x: x[None], state)
    predictions = predict(graphdef, stacked, images, batch_size=8)
    expected = [int(model(image[None]).argmax()) for image in images]
    assert predictions.tolist() == [expected]


@pytest.mark.parametrize(
    ("shape", "count"),
    [((28, 28, 1), 500), ((128, 128, 3), 85), ((448, 448, 3), 6), ((3000, 3000, 3), 1)],
)
def test_large_images_go_in_small_batches(shape, count):
    assert images_per_call(shape) == count
    batches = []

    class Recorder(nnx.Module):
        def __init__(self):
            self.scale = nnx.Param(jnp.ones(1))

        def __call__(self, images):
            batches.append(images.shape)
            return self.scale * images.mean(axis=(1, 2))

    graphdef, states = nnx.split(Recorder())
    found = predict(graphdef, states, np.zeros((1, *shape), np.uint8))
    assert batches == [(count, *shape)]
    assert found.shape == (1, 1)


def test_the_test_set_is_whole_and_in_order(digits, monkeypatch):
    """Made in parts, the last one shorter; "tutorial" standardizes digits alone."""
    monkeypatch.setattr(evaluate, "CHUNK", 8)
    images, labels = fixed_examples(few(digits, 20).test, "tutorial")
    expected = (digits.test.images[:20] / 255 - 0.1307) / 0.3081
    np.testing.assert_allclose(images, expected, atol=1e-5)
    np.testing.assert_array_equal(labels, digits.test.labels[:20])


@pytest.mark.slow
def test_the_test_set_is_the_same_under_every_seed(digits):
    data = few(digits, 20)
    twice = [fixed_examples(data.test, "tc") for _ in range(2)]
    for a, b in zip(*twice, strict=True):
        np.testing.assert_array_equal(a, b)
    (stale,) = fit(config(learning_rate=0.0, seed=5, eval_every=2), CNN, data)
    errors = [row["test_error"] for row in stale.rows if "test_error" in row]
    assert len(errors) == 2
    assert errors[0] == errors[1]
    wrong = (stale.predictions != data.test.labels).mean()
    assert stale.test_error == pytest.approx(100 * wrong)

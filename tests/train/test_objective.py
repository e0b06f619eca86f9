"""The loss, its guards and the optimizers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from trainings import CNN, SETUP, ST_CNN, few

from train import objective
from train.configs import (
    scheduled,
)
from train.data import load
from train.evaluate import percent_wrong
from train.initial import initial_model
from train.transformers import TransformerOutput, logits_and_outputs


@pytest.fixture(scope="module")
def digits():
    return few(load("digits"), 60)


def an_output(grid, warped):
    grid, warped = jnp.asarray(grid, float), jnp.asarray(warped, float)
    return TransformerOutput(jnp.zeros((2, 6)), grid, warped)


def test_outside_blank_and_excess_of_known_grids():
    grid = np.zeros((2, 2, 2, 2))
    grid[0, 0, 0] = 1.5, 0  # one of eight points, half a unit out
    grid[1, 1, 1] = -3, 2  # another, two units and one
    warped = np.zeros((2, 2, 2, 1))
    warped[0, 0, 0] = 0.5  # the second image is blank
    outputs = [an_output(grid, warped)]
    assert objective.outside(outputs) == 25
    assert objective.blank(outputs) == 50
    assert objective.excess(outputs) == pytest.approx((0.25 + 4 + 1) / 16)
    both = [*outputs, an_output(np.zeros((2, 2, 2, 2)), warped)]
    assert objective.outside(both) == 12.5
    assert objective.outside([]) == objective.blank([]) == objective.excess([]) == 0


@pytest.mark.slow
def test_the_penalty_pulls_the_grid_back(digits):
    """The grid starts far outside, where the images have no gradient."""
    model = initial_model(SETUP, ST_CNN, digits)
    model.transformer0.regression.bias[...] = jnp.array([1.0, 0, 6, 0, 1, 6])
    graphdef, params = nnx.split(model)
    images = jnp.asarray(digits.test.images[:8]) / 255

    def loss(params):
        return objective.excess(
            logits_and_outputs(nnx.merge(graphdef, params), images)[1]
        )

    assert loss(params) > 20
    optimizer = optax.adam(0.1)
    state = optimizer.init(params)
    step = jax.jit(lambda p, s: optimizer.update(jax.grad(loss)(p), s))
    for _ in range(80):
        updates, state = step(params, state)
        params = optax.apply_updates(params, updates)
    assert loss(params) < 0.1


@pytest.mark.slow
def test_clipping_bounds_the_localizations_step_alone(digits):
    """With plain SGD a step is the rate times the gradient."""
    base = scheduled(dataclasses.replace(SETUP), "tutorial")
    base = dataclasses.replace(base, learning_rate=1.0, localization_learning_rate=1.0)
    params = nnx.state(initial_model(base, ST_CNN, digits))
    grads = jax.tree.map(jnp.ones_like, params)

    def updates(clip):
        optimizer = objective.make_optimizer(dataclasses.replace(base, clip=clip))
        return optimizer.update(grads, optimizer.init(params), params)[0]

    def norm(tree):
        return jnp.sqrt(sum(jnp.square(x).sum() for x in jax.tree.leaves(tree)))

    free, clipped = updates(None), updates(0.25)
    assert norm(clipped["transformer0"]) == pytest.approx(0.25, rel=1e-4)
    assert norm(free["transformer0"]) > 1
    assert norm(free["classifier"]) == norm(clipped["classifier"])


def test_the_papers_schedule_is_a_tenth_after_each_third(digits):
    base = scheduled(SETUP, "paper")
    config = dataclasses.replace(base, steps=30)
    params = nnx.state(initial_model(config, CNN, digits))
    optimizer = objective.make_optimizer(config)
    state = optimizer.init(params)
    ones = jax.tree.map(jnp.ones_like, params)
    sizes = []
    update = jax.jit(optimizer.update)
    for _ in range(30):
        updates, state = update(ones, state, params)
        sizes.append(float(-jax.tree.leaves(updates)[0].ravel()[0]))
    assert sizes[0] == pytest.approx(0.01)
    ratios = np.array(sizes)[1:] / np.array(sizes)[:-1]
    assert [*np.flatnonzero(ratios < 0.5) + 1] == [10, 20]
    assert ratios[9] == pytest.approx(0.1, rel=0.1)  # the momentum still grows


# labels with several places


def test_the_loss_and_the_error_of_labels_with_places(rng):
    logits = rng.normal(size=(7, 3, 4)).astype(np.float32)
    labels = rng.integers(0, 4, (7, 3))
    loss, wrong = 0.0, 0
    for of_image, label in zip(logits.astype(np.float64), labels, strict=True):
        for row, at in zip(of_image, label, strict=True):
            loss -= row[at] - np.log(np.exp(row).sum())
        wrong += [*of_image.argmax(axis=1)] != [*label]
    args = jnp.asarray(logits), jnp.asarray(labels)
    np.testing.assert_allclose(objective.cross_entropy(*args), loss / 7, rtol=1e-5)
    np.testing.assert_allclose(objective.error(*args), 100 * wrong / 7, rtol=1e-6)


def test_an_image_is_wrong_if_one_of_its_places_is():
    labels = np.array([[1, 2, 0], [3, 0, 0], [1, 1, 1]])
    predictions = labels.copy()
    predictions[1, 2] = 1
    assert [*objective.is_wrong(predictions, labels)] == [False, True, False]
    assert percent_wrong(predictions, labels) == 33.3333
    assert percent_wrong(predictions[:, 0], labels[:, 0]) == 0


def test_the_loss_of_bfloat16_logits_is_computed_in_float32(rng):
    logits = jnp.asarray(rng.normal(size=(50, 10)), jnp.bfloat16)
    labels = jnp.asarray(rng.integers(0, 10, 50))
    loss = objective.cross_entropy(logits, labels)
    assert loss.dtype == jnp.float32
    exact = objective.cross_entropy(logits.astype(jnp.float32), labels)
    np.testing.assert_array_equal(loss, exact)


@pytest.mark.parametrize(
    ("schedule", "expected"), [("svhn", [8, 16, 24, 32]), ("cub", [13, 26, 33])]
)
def test_the_schedules_of_real_images(digits, schedule, expected):
    """The rates are a tenth after these of 40 steps; the weights decay, not the biases.

    The gradients are zero, so that the decay alone moves the weights.
    """
    config = dataclasses.replace(scheduled(SETUP, schedule), steps=40)
    params = nnx.state(initial_model(config, CNN, digits))
    optimizer = objective.make_optimizer(config)
    state = optimizer.init(params)
    zeros = jax.tree.map(jnp.zeros_like, params)
    update, sizes = jax.jit(optimizer.update), []
    for _ in range(40):
        updates, state = update(zeros, state, params)
        kernel, of = (
            nnx.to_pure_dict(x)["logits"]["kernel"] for x in (updates, params)
        )
        sizes.append(float((kernel / of)[0, 0]))
        assert (nnx.to_pure_dict(updates)["logits"]["bias"] == 0).all()
    decay, rate = config.weight_decay, config.learning_rate
    assert decay == {"svhn": 5e-4, "cub": 1e-5}[schedule]
    assert sizes[0] == pytest.approx(-decay * rate, rel=1e-4)
    # with momentum 0.9, a tenth of the rate is a drop at once
    ratios = np.array(sizes)[1:] / np.array(sizes)[:-1]
    assert [*np.flatnonzero(ratios < 0.5) + 1] == expected


def test_another_schedule_ends_the_weight_decay():
    assert scheduled(scheduled(SETUP, "svhn"), "fast").weight_decay == 0

"""Pairs of small digits: their classes and places."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train import parts
from train.configs import Config
from train.data import Dataset, Split, load
from train.errors import ConfigError
from train.initial import initial_model
from train.specs import ModelSpec
from train.tasks import class_names, examples


@pytest.fixture(scope="module")
def digits():
    images, labels = load("digits").train
    return jnp.asarray(images[:50], float) / 255, jnp.asarray(labels[:50])


def test_the_class_is_the_pair_of_head_and_body(digits):
    images, labels, _ = jax.jit(parts.scenes)(jax.random.key(0), *digits)
    assert images.shape == (50, 64, 64, 3)
    assert images.min() >= 0
    assert images.max() <= 1
    heads, bodies = np.divmod(labels, 10)
    np.testing.assert_array_equal(heads, digits[1])
    # the bodies are the same digits in another order
    np.testing.assert_array_equal(np.sort(bodies), np.sort(digits[1]))
    assert (bodies != heads).any()
    names = class_names("parts", "0123456789")
    assert len(names) == 100
    assert names[37] == "37"


def test_the_task_makes_these_scenes(digits):
    key = jax.random.key(3)
    images, labels = jax.jit(examples, static_argnums=0)("parts", key, *digits)
    drawn, pairs, _ = jax.jit(parts.scenes)(key, *digits)
    np.testing.assert_array_equal(images, drawn)
    np.testing.assert_array_equal(labels, pairs)


@pytest.mark.parametrize("part", [0, 1])
def test_a_part_lies_where_its_center_says(part):
    """What a part adds to an image without distractors, and its center of mass."""
    dot = np.zeros((2, 28, 28, 1), np.float32)
    empty = jnp.asarray(dot)
    dot[part, 10:18, 10:18] = 1
    others = jnp.zeros((1, 28, 28, 1))
    draw = jax.jit(parts.draw_pair)
    for seed in range(12):
        key = jax.random.key(seed)
        with_part, centers = draw(key, jnp.asarray(dot), others)
        without, _ = draw(key, empty, others)
        added = np.abs(np.asarray(with_part - without)).sum(axis=-1)
        y, x = np.mgrid[:64, :64] - 31.5
        found = np.array([(added * x).sum(), (added * y).sum()]) / added.sum()
        np.testing.assert_allclose(found, centers[part], atol=0.35)


def test_head_and_body_are_apart_and_within_the_image():
    keys = jax.random.split(jax.random.key(0), 2000)
    centers = np.asarray(jax.vmap(parts._centers)(keys))
    distance = np.linalg.norm(centers[:, 0] - centers[:, 1], axis=1)
    assert np.mean(distance >= parts.APART) > 0.999
    assert np.abs(centers).max() <= 22
    np.testing.assert_allclose(centers.mean(axis=0), 0, atol=1.5)


def test_heads_are_warm_and_bodies_are_cold():
    full, others = jnp.ones((2, 28, 28, 1)), jnp.zeros((1, 28, 28, 1))
    draw = jax.jit(parts.draw_pair)
    for seed in range(10):
        image, centers = draw(jax.random.key(seed), full, others)
        (red, _, blue), cold = (
            np.asarray(image)[tuple(np.round(c[::-1] + 31.5).astype(int))]
            for c in np.asarray(centers)
        )
        assert red >= 0.7 - 1e-6
        assert blue <= 0.3 + 1e-6
        assert cold[2] >= 0.6 - 1e-6
        assert cold[0] <= 0.4 + 1e-6


def test_the_data_must_have_ten_classes(digits):
    few = Split(np.zeros((4, 28, 28, 1), np.uint8), np.arange(4, dtype=np.int32) % 3)
    data = Dataset("shapes", few, few, ("a", "b", "c"))
    config = Config((ModelSpec("cnn"),), "parts", network="cub_lean")
    with pytest.raises(ConfigError, match=r"needs ten classes, .*; shapes has 3"):
        initial_model(config, ModelSpec("cnn"), data)

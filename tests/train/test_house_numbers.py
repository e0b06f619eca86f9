"""House numbers drawn with digits: their labels, and where the digits lie."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train import house_numbers as numbers
from train.data import Split, load
from train.evaluate import fixed_examples
from train.tasks import class_names, examples


@pytest.fixture(scope="module")
def digits():
    images, labels = load("digits").train
    return images[:60], labels[:60]


SIDES = [64, pytest.param(128, marks=pytest.mark.slow)]


@pytest.mark.parametrize("side", SIDES)
def test_images_and_labels(digits, side):
    make = jax.jit(examples, static_argnums=0)
    images, labels = make(f"numbers{side}", jax.random.key(0), *digits)
    assert images.shape == (60, side, side, 3)
    assert labels.shape == (60, 5)
    assert images.min() >= 0
    assert images.max() <= 1
    has_digit = np.asarray(labels) > 0
    counts = has_digit.sum(axis=1)
    assert set(counts) == {1, 2, 3, 4, 5}
    for row, count in zip(has_digit, counts, strict=True):
        assert row[:count].all()  # class 0 is behind the digits alone
    # each digit of the batch is the first of a number
    np.testing.assert_array_equal(labels[:, 0] - 1, digits[1])
    assert class_names(f"numbers{side}", "0123456789") == ("none", *"0123456789")


def test_the_counts_have_the_stated_chances():
    blank, labels = jnp.zeros((20_000, 2, 2, 1)), jnp.zeros(20_000, int)

    @jax.jit
    def labels_alone(key):
        return numbers.house_numbers(key, blank, labels, side=64)[1]

    counts = np.asarray(labels_alone(jax.random.key(1)) > 0).sum(axis=1)
    shares = np.bincount(counts, minlength=6)[1:] / len(counts)
    np.testing.assert_allclose(shares, numbers.COUNTS, atol=0.015)


def test_digits_lie_side_by_side_in_the_order_of_the_label():
    """The strip, pixel by pixel, by loops."""
    rng = np.random.default_rng(0)
    digits = rng.random((5, 28, 28, 1)).astype(np.float32)
    side_by_side = jax.jit(numbers._side_by_side)
    for count in range(1, 6):
        expected = np.zeros((28, 104, 1), np.float32)
        for index in range(count):
            for x in range(28):
                at = round(index * 0.68 * 28) + x
                expected[:, at] = np.maximum(expected[:, at], digits[index, :, x])
        strip = side_by_side(jnp.asarray(digits), jnp.asarray(count))
        np.testing.assert_array_equal(strip, expected)


def center_of_mass(image):
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    return np.array([(image * x).sum(), (image * y).sum()]) / image.sum()


@pytest.mark.parametrize("side", SIDES)
def test_a_placed_number_reads_from_left_to_right_within_the_image(side):
    """Dots in the middle of each digit: their places show order and extent."""
    dot = np.zeros((28, 28, 1), np.float32)
    dot[12:16, 12:16] = 1
    place = jax.jit(
        lambda key, strip, count: numbers._placed(key, strip, count, (28, 28), side)
    )
    side_by_side, angles = jax.jit(numbers._side_by_side), []
    for seed in range(12):
        key, count = jax.random.key(seed), 2 + seed % 4
        centers = []
        for index in range(count):
            digits = np.zeros((5, 28, 28, 1), np.float32)
            digits[index] = dot
            strip = side_by_side(digits, jnp.asarray(count))
            image = np.asarray(place(key, strip, jnp.asarray(count)))[..., 0]
            assert image.sum() > 0
            centers.append(center_of_mass(image))
        steps = np.diff(centers, axis=0)
        assert (steps[:, 0] > 3).all()  # to the right
        np.testing.assert_allclose(steps, steps[[0]].repeat(len(steps), 0), atol=1)
        assert (np.array(centers) > 0).all()
        assert (np.array(centers) < side - 1).all()
        angles.append(np.arctan2(steps[0, 1], steps[0, 0]))
    assert np.abs(angles).max() < 0.17
    assert np.std(angles) > 0.03  # each number is turned by an angle of its own


def test_an_image_of_128_pixels_shows_twice_the_height_and_width_around_the_number():
    full = jnp.zeros((5, 28, 28, 1)).at[:, 4:24, 4:24].set(1)  # as digits fill it
    small, large = (
        jax.jit(
            lambda key, count, side=side: numbers._placed(
                key, numbers._side_by_side(full, count), count, (28, 28), side
            )
        )
        for side in (64, 128)
    )
    centers, within, total = [], 0, 0
    for i in range(40):
        key, count = jax.random.key(i), jnp.asarray(1 + i % 5)
        image = np.asarray(large(key, count))[..., 0]
        middle = image[32:96, 32:96]
        np.testing.assert_allclose(middle, small(key, count)[..., 0], atol=1e-4)
        within, total = within + middle.sum(), total + image.sum()
        centers.append(center_of_mass(image))
    assert within > 0.97 * total
    assert 10 < np.ptp(centers, axis=0).max() < 40  # places of their own


def test_a_number_contrasts_with_its_background():
    keys = jax.random.split(jax.random.key(0), 300)
    colors = np.asarray(jax.jit(jax.vmap(numbers._colors))(keys))
    brightness = colors.mean(axis=-1)
    contrast = np.abs(brightness[:, 1] - brightness[:, 0])
    assert np.mean(contrast >= 0.3) > 0.98


def test_distractors_are_parts_of_other_digits_and_cut_off_by_the_edges():
    others = jnp.ones((3, 28, 28, 1))
    draw = jax.jit(jax.vmap(lambda key: numbers._distractors(key, others, 64)))
    found = np.asarray(draw(jax.random.split(jax.random.key(0), 20)))[..., 0]
    assert found.min() >= 0
    assert found.max() == 1
    is_on_edge = [
        max(x[0].mean(), x[-1].mean(), x[:, 0].mean(), x[:, -1].mean()) for x in found
    ]
    assert np.mean(np.array(is_on_edge) > 0.2) > 0.6
    assert (found.mean(axis=(1, 2)) < 0.5).all()  # the middle stays free


def test_the_same_key_draws_the_same_numbers(digits):
    split = Split(*digits)
    first, second = (fixed_examples(split, "numbers64") for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)

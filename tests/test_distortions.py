"""The distortions, against SciPy: they are made with the library they help to test."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from train import distortions
from train.distortions import distort


@pytest.fixture
def glyph():
    """An image without symmetry: the letter F, 20 pixels high in 28x28."""
    image = np.zeros((28, 28, 1), np.float32)
    image[4:24, 9:12] = image[4:7, 9:19] = image[12:15, 9:16] = 1
    return image


def place(image, canvas, angle, scale, center):
    """SciPy's affine_transform: pixels (y, x), output to input."""
    cos, sin = np.cos(angle), np.sin(angle)
    back = np.array([[cos, sin], [-sin, cos]]) / scale  # (y, x): the other way around
    middle_in = (np.array(image.shape[:2]) - 1) / 2
    middle_out = (np.array(canvas) - 1) / 2 + np.array(center)[::-1]
    return ndimage.affine_transform(
        image[..., 0],
        back,
        middle_in - back @ middle_out,
        output_shape=canvas,
        order=1,
        mode="grid-constant",
    )


@pytest.mark.parametrize("size", [(28, 28), (20, 36)])
@pytest.mark.parametrize(
    ("angle", "scale", "center"),
    [(0.0, 1.0, (0, 0)), (0.6, 0.8, (3, -5)), (-1.2, 1.2, (-4.5, 2.25))],
)
def test_an_image_lands_where_scipy_puts_it(glyph, size, angle, scale, center):
    image = glyph[: size[0]]
    image = np.pad(image, ((0, 0), (0, size[1] - 28), (0, 0)))
    canvas = (40, 50)
    ours = distortions._place(image, canvas, angle, scale, np.array(center))
    theirs = place(image, canvas, angle, scale, center)
    np.testing.assert_allclose(ours[..., 0], theirs, atol=2e-5)


def test_a_positive_angle_turns_counter_clockwise(glyph):
    ours = distortions._place(glyph, (28, 28), np.pi / 2, 1.0, np.zeros(2))
    np.testing.assert_allclose(ours, np.rot90(glyph), atol=1e-5)


def statistics(image):
    """Ink, its center from the middle of the canvas (x, y), and its spread."""
    image = np.asarray(image)[..., 0].astype(float)
    ink = image.sum()
    y, x = np.indices(image.shape) - (np.array(image.shape).reshape(2, 1, 1) - 1) / 2
    center = np.array([(x * image).sum(), (y * image).sum()]) / ink
    return ink, center


def test_r_turns_by_up_to_90_degrees_and_keeps_all_ink(glyph):
    images = distort("r", jax.random.key(0), jnp.tile(glyph, (400, 1, 1, 1)))
    assert images.shape == (400, 28, 28, 1)
    ink, center = statistics(glyph)
    inks, centers = zip(*map(statistics, images), strict=True)
    np.testing.assert_allclose(inks, ink, rtol=0.02)
    turned = np.array(centers) @ np.array([1, -1j])  # y is down
    angles = np.degrees(np.angle(turned / (center @ np.array([1, -1j]))))
    assert -90.5 < angles.min() < -85
    assert 85 < angles.max() < 90.5
    assert abs(angles.mean()) < 8


def test_rts_magnifies_by_07_to_12_and_goes_everywhere(glyph):
    images = distort("rts", jax.random.key(0), jnp.tile(glyph, (400, 1, 1, 1)))
    assert images.shape == (400, 42, 42, 1)
    ink, _ = statistics(glyph)
    inks, centers = zip(*map(statistics, images), strict=True)
    scales = np.sqrt(np.array(inks) / ink)
    assert 0.68 < scales.min() < 0.73
    assert 1.17 < scales.max() < 1.22
    small = np.array(centers)[scales < 0.75]
    assert (np.abs(small).max(axis=0) > 8).all()  # far out, in x and in y
    assert (np.abs(np.array(centers)).max(axis=0) < 14).all()
    assert (np.asarray(images)[:, [0, -1]] < 0.01).mean() > 0.98  # hardly cut


def test_bytes_become_floats_in_the_unit_interval(glyph):
    images = jnp.asarray(255 * glyph, jnp.uint8)[None]
    for name in distortions.DISTORTIONS:
        out = distort(name, jax.random.key(0), images)
        assert out.dtype == jnp.float32
        assert 0 <= out.min() <= out.max() <= 1 + 1e-6
    np.testing.assert_array_equal(distort("none", jax.random.key(0), images)[0], glyph)


def test_every_image_is_distorted_on_its_own_and_reproducibly(glyph):
    images = jnp.tile(glyph, (2, 1, 1, 1))
    once, twice = (distort("rts", jax.random.key(3), images) for _ in range(2))
    np.testing.assert_array_equal(once, twice)
    assert np.abs(once[0] - once[1]).max() > 0.5

"""Rotations, zooms and flips in pixels: NumPy and SciPy are the oracles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradients import check_derivatives
from scipy import ndimage

from stn_jax import affine_grid, from_rotation, rotated_size, sample, to_pixel, warp
from stn_jax.transforms import Affine

pytestmark = pytest.mark.usefixtures("strict")
CORNERS = [False, True]


def sampled(image, theta, size, align_corners=False, **options):
    grid = affine_grid(theta, size, align_corners=align_corners)
    return sample(image[..., None], grid, align_corners=align_corners, **options)[
        ..., 0
    ]


@pytest.mark.parametrize("align_corners", CORNERS)
@pytest.mark.parametrize("degrees", [30, -75, 200])
@pytest.mark.parametrize("shape", [(8, 4), (5, 11)])
@pytest.mark.parametrize("reshape", [False, True])
def test_rotations_are_scipys(x64, rng, degrees, shape, align_corners, reshape):
    image, angle = rng.normal(size=shape), np.deg2rad(degrees)
    expected = ndimage.rotate(
        image, degrees, reshape=reshape, order=1, mode="grid-constant"
    )
    size = rotated_size(angle, shape) if reshape else shape
    assert size == expected.shape
    theta = from_rotation(angle, shape, size, align_corners=align_corners)
    out = sampled(image, theta, size, align_corners)
    np.testing.assert_allclose(out, expected, atol=1e-12)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_quarter_turns_are_rot90(rng, turns):
    """From 80x40 to 40x80, exactly."""
    image = rng.normal(size=(80, 40)).astype(np.float32)
    angle = turns * np.pi / 2
    size = rotated_size(angle, (80, 40))
    theta = from_rotation(angle, (80, 40), size)
    expected = np.rot90(image, turns)
    nearest = sampled(image, theta, size, method="nearest")
    np.testing.assert_array_equal(nearest, expected)
    out = sampled(image, theta, size, padding_mode="border")
    np.testing.assert_allclose(out, expected, atol=1e-4)


@pytest.mark.parametrize("align_corners", CORNERS)
@pytest.mark.parametrize("axis", [0, 1])
def test_flips(rng, axis, align_corners):
    image = rng.normal(size=(5, 8)).astype(np.float32)
    zoom = np.array([1.0, -1.0] if axis == 0 else [-1.0, 1.0], np.float32)
    theta = from_rotation(0.0, (5, 8), zoom=zoom, align_corners=align_corners)
    out = sampled(image, theta, (5, 8), align_corners)
    np.testing.assert_allclose(out, np.flip(image, axis), atol=1e-5)


def test_a_flip_about_a_point(rng):
    """Column 2 stays, columns 1 and 3 change places."""
    image = rng.normal(size=(3, 8)).astype(np.float32)
    zoom, center = np.array([-1, 1]), np.array([2, 0])
    out = sampled(image, from_rotation(0.0, (3, 8), zoom=zoom, center=center), (3, 8))
    np.testing.assert_allclose(out[:, :5], image[:, 4::-1], atol=1e-5)
    np.testing.assert_allclose(out[:, 5:], 0, atol=1e-5)


@pytest.mark.parametrize("factor", [2, 3])
def test_a_zoom_is_scipys(x64, rng, factor):
    image = rng.normal(size=(5, 7))
    expected = ndimage.zoom(
        image, factor, order=1, mode="grid-constant", grid_mode=True
    )
    size = rotated_size(0.0, (5, 7), zoom=factor)
    assert size == expected.shape
    theta = from_rotation(0.0, (5, 7), size, zoom=factor)
    np.testing.assert_allclose(sampled(image, theta, size), expected, atol=1e-12)


@pytest.mark.parametrize("align_corners", CORNERS)
@pytest.mark.parametrize("output_size", [(6, 9), (4, 3)])
def test_a_zoom_then_a_rotation_about_a_point(x64, rng, output_size, align_corners):
    """SciPy's affine_transform, with the matrix from its definition, rows first."""
    image, center, angle = rng.normal(size=(6, 9)), np.array([2.5, 4.0]), 0.7
    zoom = np.array([1.5, 0.8])  # x, y
    rotation = np.array(
        [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    )
    linear = np.diag(1 / zoom) @ rotation
    matrix = linear[::-1, ::-1]
    offset = (center - linear @ center)[::-1]
    expected = ndimage.affine_transform(
        image, matrix, offset, output_size, order=1, mode="grid-constant"
    )
    options = {"zoom": zoom, "center": center, "align_corners": align_corners}
    theta = from_rotation(angle, (6, 9), output_size, **options)
    out = sampled(image, theta, output_size, align_corners)
    np.testing.assert_allclose(out, expected, atol=1e-12)
    pixels = to_pixel(theta, (6, 9), output_size, align_corners=align_corners)
    fixed = pixels @ np.append(center, 1)
    np.testing.assert_allclose(fixed, center, atol=1e-12)


@pytest.mark.parametrize(
    ("vector", "degrees", "axes"),
    [((0, 0, 1), 40, (1, 2)), ((1, 0, 0), 25, (0, 1)), ((0, -1, 0), 70, (0, 2))],
)
def test_volumes(x64, rng, vector, degrees, axes):
    """Rotations about each axis: planes of the volume, by SciPy."""
    volume = rng.normal(size=(4, 5, 7))
    expected = ndimage.rotate(volume, degrees, axes, order=1, mode="grid-constant")
    angle = np.array(vector) * np.deg2rad(degrees)
    size = rotated_size(angle, volume.shape)
    assert size == expected.shape
    out = sampled(volume, from_rotation(angle, volume.shape, size), size)
    np.testing.assert_allclose(out, expected, atol=1e-12)


def test_the_whole_image_fits():
    """Also zoomed: the corners of the input are within half a pixel of the output."""
    for angle, zoom in ((0.4, 1.0), (2.0, (1.7, 0.6)), (-1.1, (-1.0, 0.5))):
        size = rotated_size(angle, (20, 31), zoom=np.array(zoom))
        theta = from_rotation(angle, (20, 31), size, zoom=np.array(zoom))
        forward = np.asarray(
            to_pixel(theta, (20, 31), size, direction="forward"), float
        )
        edges = np.array([(x, y, 1) for x in (-0.5, 30.5) for y in (-0.5, 19.5)])
        moved = edges @ forward.T
        low, high = moved.min(0), moved.max(0)
        np.testing.assert_allclose(low, -0.5, atol=0.51)
        np.testing.assert_allclose(high + 0.5, size[::-1], atol=0.51)
    assert rotated_size(0.0, (1, 1), zoom=0.1) == (1, 1)


def test_a_known_angle_within_a_traced_program():
    @jax.jit
    def turned(image):
        size = rotated_size(jnp.pi / 2, image.shape)
        return sampled(image, from_rotation(jnp.pi / 2, image.shape, size), size)

    assert turned(jnp.ones((6, 4))).shape == (4, 6)


def test_batches_and_derivatives(x64, rng):
    """Of an angle, a zoom and a center for each image."""
    angle, zoom = rng.normal(size=(3,)), rng.uniform(0.5, 2, size=(3, 2))
    center = rng.uniform(0, 6, size=(2, 1, 2))

    def theta(angle, zoom, center):
        return from_rotation(angle, (5, 7), (4, 6), zoom=zoom, center=center)

    out = theta(angle, zoom, center)
    assert out.shape == (2, 3, 2, 3)
    one = theta(angle[2], zoom[2], center[1, 0])
    np.testing.assert_allclose(out[1, 2], one, atol=1e-12)
    mapped = jax.jit(jax.vmap(theta, (0, 0, None)))(angle, zoom, center[0, 0])
    np.testing.assert_allclose(mapped, out[0], atol=1e-12)
    check_derivatives(theta, [angle, zoom, center])


def test_dtypes_and_warp(x64, rng):
    angle = jnp.float32(0.3)
    assert from_rotation(angle, (4, 5)).dtype == jnp.float32
    assert from_rotation(0.3, (4, 5)).dtype == jnp.float64
    theta = from_rotation(angle, (4, 5))
    image = rng.normal(size=(4, 5)).astype(np.float32)
    out = warp(image[..., None], Affine(), theta.reshape(6))[..., 0]
    np.testing.assert_allclose(out, sampled(image, theta, (4, 5)), atol=1e-6)


def test_what_is_refused():
    with pytest.raises(ValueError, match="zoom must not be 0"):
        from_rotation(0.0, (4, 5), zoom=0)
    with pytest.raises(ValueError, match=r"zoom must be \(\*batch, 2\), one number"):
        from_rotation(jnp.zeros(3), (4, 5), zoom=jnp.ones(3))
    with pytest.raises(ValueError, match=r"center must be \(\*batch, 2\)"):
        from_rotation(0.0, (4, 5), center=jnp.zeros(3))
    with pytest.raises(ValueError, match=r"angle must be \(\*batch, 3\)"):
        from_rotation(0.3, (4, 5, 6))
    with pytest.raises(ValueError, match="size must be"):
        from_rotation(0.3, (4, 5), (4, 5, 6))
    with pytest.raises(ValueError, match="leading axes must broadcast; got"):
        from_rotation(jnp.zeros(3), (4, 5), zoom=jnp.ones((4, 2)))
    with pytest.raises(TypeError, match="angle must be known when tracing"):
        jax.jit(lambda a: jnp.zeros(rotated_size(a, (4, 5))))(0.3)
    with pytest.raises(ValueError, match="one size is for one rotation"):
        rotated_size(jnp.zeros(3), (4, 5))

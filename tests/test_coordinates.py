"""Pixels and [-1, 1]: `identity_grid`, `to_pixels`, `to_normalized`, `inside`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references

from stn_jax import identity_grid, inside, to_normalized, to_pixels

SIZES = [(3, 4), (1, 5), (1, 1), (2, 3, 4), (1, 1, 2)]
CORNERS = [False, True]

pytestmark = pytest.mark.usefixtures("strict")


@pytest.mark.parametrize("align_corners", CORNERS)
@pytest.mark.parametrize("size", SIZES)
def test_identity_grid_is_where_the_pixels_are(size, align_corners):
    grid = identity_grid(size, align_corners=align_corners)
    expected = references.identity_grid(size, align_corners)
    np.testing.assert_allclose(grid, expected, atol=1e-7)
    assert grid.dtype == jnp.float32


def test_identity_grid_takes_a_dtype(x64):
    assert identity_grid((2, 3)).dtype == jnp.float64
    assert identity_grid((2, 3), dtype=jnp.bfloat16).dtype == jnp.bfloat16
    grid = identity_grid((3, 7))
    expected = references.identity_grid((3, 7), False)
    np.testing.assert_allclose(grid, expected, atol=1e-15)


@pytest.mark.parametrize("align_corners", CORNERS)
@pytest.mark.parametrize("size", SIZES)
def test_to_pixels_of_the_identity_is_the_index(size, align_corners):
    grid = identity_grid(size, align_corners=align_corners)
    pixels = to_pixels(grid, size, align_corners=align_corners)
    index = np.stack(np.indices(size)[::-1], axis=-1)
    np.testing.assert_allclose(pixels, index, atol=1e-6)


@pytest.mark.parametrize("align_corners", CORNERS)
def test_to_pixels_and_back(rng, align_corners):
    points = rng.uniform(-3, 3, size=(4, 5, 2)).astype(np.float32)
    pixels = to_pixels(points, (3, 8), align_corners=align_corners)
    for axis, n in enumerate((8, 3)):
        expected = references.pixel(points[..., axis], n, align_corners)
        np.testing.assert_allclose(pixels[..., axis], expected, rtol=1e-6, atol=1e-6)
    back = to_normalized(pixels, (3, 8), align_corners=align_corners)
    np.testing.assert_allclose(back, points, atol=1e-6)


@pytest.mark.parametrize("convert", [to_pixels, to_normalized])
def test_an_axis_of_one_pixel_has_no_extent_with_align_corners(convert):
    points = jnp.array([[-3.0, 0.5], [jnp.inf, -jnp.inf], [jnp.nan, 1e30]])
    out = convert(points, (1, 1), align_corners=True)
    expected = [[0, 0], [np.inf, -np.inf], [np.nan, 0]]
    np.testing.assert_array_equal(out, expected)
    slope = jax.jacobian(lambda p: convert(p, (1, 1), align_corners=True))(points)
    assert jnp.isfinite(slope[0]).all()


def test_half_precision_coordinates_are_widened():
    grid = jnp.ones((2, 2), jnp.bfloat16)
    assert to_pixels(grid, (5, 5)).dtype == jnp.float32
    assert to_pixels(np.array([[1, -1]]), (5, 5)).dtype == jnp.float32


@pytest.mark.parametrize(
    ("size", "error"),
    [
        ((3, 0), ValueError),
        ((3, -1), ValueError),
        ((3,), ValueError),
        ((1, 2, 3, 4), ValueError),
        ((3, 2.5), TypeError),
        ((3, True), TypeError),
        (3, TypeError),
        ("ab", TypeError),
        (None, TypeError),
    ],
)
def test_invalid_sizes_are_refused(size, error):
    with pytest.raises(
        error, match=r"size must be \(height, width\) or .*; got"
    ) as info:
        identity_grid(size)
    assert repr(size) in str(info.value)


def test_a_traced_size_is_an_error():
    with pytest.raises(TypeError, match="known when tracing"):
        jax.jit(lambda n: identity_grid((n, 3)))(2)


def test_points_must_have_a_coordinate_for_each_axis():
    with pytest.raises(ValueError, match=r"shape \(..., 2\); got shape \(4, 3\)"):
        to_pixels(jnp.zeros((4, 3)), (5, 6))
    with pytest.raises(TypeError, match="real numbers; got dtype complex64"):
        to_normalized(jnp.zeros((4, 2), jnp.complex64), (5, 6))


def test_inside_is_closed_and_knows_its_corners():
    edge = jnp.array([-1.0, 1.0, 1.0000001, jnp.nan, jnp.inf])
    grid = jnp.stack([edge, jnp.zeros(5)], axis=-1)
    for align_corners in (False, True):
        np.testing.assert_array_equal(
            inside(grid, (3, 4), align_corners=align_corners),
            [True, True, False, False, False],
        )
    points = jnp.array([[-0.5, 0.0], [3.5, 0.0], [0.0, 2.6], [3.0, 2.0]])
    np.testing.assert_array_equal(
        inside(points, (3, 4), coordinates="pixel"), [True, True, False, True]
    )
    np.testing.assert_array_equal(
        inside(points, (3, 4), coordinates="pixel", align_corners=True),
        [False, False, False, True],
    )

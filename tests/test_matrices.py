"""Conversions of matrices: each against where pixels go, and against SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references
from scipy import ndimage

from stn_jax import (
    affine_grid,
    convert,
    from_pixel,
    projective_grid,
    sample,
    to_normalized,
    to_pixel,
    to_pixels,
)

pytestmark = pytest.mark.usefixtures("strict")
CORNERS = [False, True]
SIZES = [((5, 7), (4, 6)), ((4, 3, 6), (2, 5, 3))]
each_size = pytest.mark.parametrize(("size", "output_size"), SIZES)
both_corners = pytest.mark.parametrize("align_corners", CORNERS)


def theta_for(rng, size, batch=(), *, square=False):
    n = len(size)
    rows = n + 1 if square else n
    theta = np.eye(rows, n + 1) + 0.2 * rng.normal(size=(*batch, rows, n + 1))
    if square:
        theta[..., -1, -1] = 1
    return theta


def pixel_centers(size):
    return np.stack(np.indices(size)[::-1], axis=-1).astype(float)


def act(matrix, points):
    """Points (..., n) under a matrix, in NumPy; rows missing are 0, ..., 0, 1."""
    n = points.shape[-1]
    full = np.eye(n + 1)
    full[: len(matrix)] = matrix
    moved = np.concatenate([points, np.ones((*points.shape[:-1], 1))], -1) @ full.T
    return moved[..., :-1] / moved[..., -1:]


@each_size
@both_corners
@pytest.mark.parametrize("square", [False, True])
def test_a_pixel_matrix_takes_pixels_where_theta_does(
    x64, rng, size, output_size, align_corners, square
):
    theta = theta_for(rng, size, square=square)
    options = {"align_corners": align_corners}
    matrix = to_pixel(theta, size, output_size, **options)
    assert matrix.shape == theta.shape
    make = projective_grid if square else affine_grid
    expected = to_pixels(make(theta, output_size, **options), size, **options)
    moved = act(np.asarray(matrix), pixel_centers(output_size))
    np.testing.assert_allclose(moved, expected, atol=1e-12)
    back = from_pixel(matrix, size, output_size, **options)
    np.testing.assert_allclose(back, theta, atol=1e-12)


@each_size
@pytest.mark.parametrize("square", [False, True])
def test_forward_matrices_and_rows_first(x64, rng, size, output_size, square):
    theta = theta_for(rng, size, (3, 2), square=square)
    plain = np.asarray(to_pixel(theta, size, output_size))
    assert plain.shape == theta.shape
    forward = to_pixel(theta, size, output_size, direction="forward")
    rows_first = to_pixel(theta, size, output_size, order="ij")
    points = np.random.default_rng(0).uniform(0, 3, size=(8, len(size)))
    for where in np.ndindex(3, 2):
        there = act(np.asarray(forward)[where], act(plain[where], points))
        np.testing.assert_allclose(there, points, atol=1e-11)
        flipped = act(np.asarray(rows_first)[where], points[:, ::-1])[:, ::-1]
        np.testing.assert_allclose(flipped, act(plain[where], points), atol=1e-12)
    for options in (
        {"direction": "forward"},
        {"order": "ij"},
        {"order": "ij", "direction": "forward", "align_corners": True},
    ):
        matrix = to_pixel(theta, size, output_size, **options)
        back = from_pixel(matrix, size, output_size, **options)
        np.testing.assert_allclose(back, theta, atol=1e-11)


@each_size
def test_scipys_matrices_warp_as_scipy_does(x64, rng, size, output_size):
    matrix = theta_for(rng, size, square=True)
    matrix[-1, :-1] = 0
    image = rng.normal(size=size)
    theta = from_pixel(matrix, size, output_size, order="ij")[: len(size)]
    grid = affine_grid(theta, output_size)
    out = sample(image[..., None], grid, padding_mode="constant", fill_value=0.5)
    expected = ndimage.affine_transform(
        image, matrix, output_shape=output_size, order=1, mode="grid-constant", cval=0.5
    )
    np.testing.assert_allclose(out[..., 0], expected, atol=1e-12)


@each_size
@both_corners
def test_another_corner_convention_samples_the_same_pixels(
    x64, rng, size, output_size, align_corners
):
    theta = theta_for(rng, size)
    other = convert(
        theta,
        size,
        output_size,
        align_corners=align_corners,
        to_align_corners=not align_corners,
    )
    pixels = [
        to_pixels(affine_grid(t, output_size, align_corners=c), size, align_corners=c)
        for t, c in ((theta, align_corners), (other, not align_corners))
    ]
    np.testing.assert_allclose(*pixels, atol=1e-12)


@each_size
@both_corners
def test_another_resolution_samples_the_same_places(
    x64, rng, size, output_size, align_corners
):
    """Places are measured edge to edge, in units of the picture."""
    theta = theta_for(rng, size)
    to_size = tuple(3 * n for n in size)
    to_output_size = tuple(2 * n + 1 for n in output_size)
    other = convert(
        theta,
        size,
        output_size,
        align_corners=align_corners,
        to_size=to_size,
        to_output_size=to_output_size,
        to_align_corners=True,
    )

    def move(theta, points, size, output_size, corners):
        points = from_edges(points, output_size, corners)
        return to_edges(act(theta, points), size, corners)

    points = rng.uniform(-1, 1, size=(9, len(size)))
    before = move(theta, points, size, output_size, align_corners)
    after = move(np.asarray(other), points, to_size, to_output_size, True)
    np.testing.assert_allclose(after, before, atol=1e-12)


def to_edges(points, size, corners):
    """By the definitions, axis by axis: to pixels, and with corners False back."""
    columns = [
        references.normalized(references.pixel(points[:, i], n, corners), n, False)
        for i, n in enumerate(reversed(size))
    ]
    return np.stack(columns, axis=-1)


def from_edges(points, size, corners):
    columns = [
        references.normalized(references.pixel(points[:, i], n, False), n, corners)
        for i, n in enumerate(reversed(size))
    ]
    return np.stack(columns, axis=-1)


def test_without_corners_the_resolution_is_all_one(rng):
    theta = theta_for(rng, (5, 7)).astype(np.float32)
    for options in (
        {"to_size": (50, 9)},
        {"to_size": (5, 8), "to_output_size": (1, 1)},
    ):
        np.testing.assert_array_equal(convert(theta, (5, 7), (2, 3), **options), theta)


def test_an_axis_of_one_pixel(x64):
    theta = jnp.array([[0.5, 0.2, 0.1], [0.0, 1.0, 0.3]])
    for options in (
        {"align_corners": True, "to_align_corners": False},
        {"align_corners": False, "to_align_corners": True},
    ):
        assert jnp.isfinite(convert(theta, (1, 4), **options)).all()
    matrix = to_pixel(theta, (4, 4), (1, 4), align_corners=True)
    grid = affine_grid(theta, (1, 4), align_corners=True)
    expected = to_pixels(grid, (4, 4), align_corners=True)
    moved = act(np.asarray(matrix), pixel_centers((1, 4)))
    np.testing.assert_allclose(moved, expected, atol=1e-12)


def test_precision_and_gradients(rng):
    theta = theta_for(rng, (480, 640)).astype(np.float32)
    matrix = to_pixel(theta, (480, 640))
    assert matrix.dtype == jnp.float32
    np.testing.assert_allclose(from_pixel(matrix, (480, 640)), theta, atol=1e-6)
    slope = jax.grad(lambda t: from_pixel(t, (4, 4), direction="forward").sum())(theta)
    assert jnp.isfinite(slope).all()
    corner = to_normalized(jnp.array([[639.0, 479.0]]), (480, 640))
    np.testing.assert_allclose(corner, [[1 - 1 / 640, 1 - 1 / 480]], rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "size", "options", "message"),
    [
        ((6,), (3, 4), {}, r"must be \(\*batch, 2, 3\) or \(\*batch, 3, 3\)"),
        ((2, 3), (3, 4, 5), {}, r"must be \(\*batch, 3, 4\) or \(\*batch, 4, 4\)"),
        ((2, 3), (3, 4), {"output_size": (1, 2, 3)}, "size must be"),
        ((2, 3), (3, 4), {"order": "yx"}, "order must be one of 'xy', 'ij'; got 'yx'"),
        ((2, 3), (3, 4), {"direction": 1}, "one of 'backward', 'forward'; got 1"),
    ],
)
def test_invalid_matrices_and_options_are_refused(shape, size, options, message):
    for function in (from_pixel, to_pixel):
        with pytest.raises(ValueError, match=message):
            function(jnp.ones(shape), size, **options)

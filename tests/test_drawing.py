"""Pictures, checked by the data of their lines and arrows."""

import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from matplotlib.figure import Figure

from stn_jax import Kernel, affine_grid, projective_grid
from stn_jax.drawing import (
    draw_flow,
    draw_grid,
    draw_image,
    draw_kernel,
    draw_outline,
    draw_response,
)

SIZE = (6, 9)


@pytest.fixture
def axes():
    return Figure().subplots()


@pytest.fixture
def image(rng):
    return rng.uniform(size=(*SIZE, 3)).astype(np.float32)


def points_of(theta, size, output_size, align_corners):
    """The sample points of a matrix in pixels ``(h, w, 2)``, one by one."""
    height, width = size

    def to_pixel(x, n):
        return (x + 1) / 2 * (n - 1) if align_corners else ((x + 1) * n - 1) / 2

    def center(i, n):
        return 2 * i / (n - 1) - 1 if align_corners else (2 * i + 1) / n - 1

    points = np.zeros((*output_size, 2))
    for i, j in np.ndindex(*output_size):
        target = [center(j, output_size[1]), center(i, output_size[0]), 1]
        x, y = np.asarray(theta) @ target
        points[i, j] = to_pixel(x, width), to_pixel(y, height)
    return points


THETA = np.array([[0.5, -0.3, 0.1], [0.2, 0.7, -0.2]], np.float32)


def test_an_image_has_pixel_coordinates(axes, image):
    drawn = draw_image(image, axes=axes)
    assert [*drawn.get_extent()] == [-0.5, 8.5, 5.5, -0.5]
    np.testing.assert_array_equal(drawn.get_array(), image)
    assert axes.get_ylim() == (5.5, -0.5)  # y points down


def test_a_gray_image_is_shown_from_black_to_white(axes):
    drawn = draw_image(np.array([[[-1.0], [0.25], [2.0]]]), axes=axes)
    np.testing.assert_array_equal(drawn.get_array(), [[0.0, 0.25, 1.0]])
    np.testing.assert_array_equal(drawn.to_rgba([0, 1])[:, :3], [[0] * 3, [1] * 3])


@pytest.mark.parametrize("align_corners", [False, True])
def test_an_outline_runs_around_the_sample_points(axes, align_corners):
    grid = affine_grid(THETA, (4, 5), align_corners=align_corners)
    upper, around = draw_outline(grid, SIZE, align_corners=align_corners, axes=axes)
    points = points_of(THETA, SIZE, (4, 5), align_corners)
    np.testing.assert_allclose(upper.get_xydata(), points[0], atol=1e-5)
    clockwise = [*points[:, 4], *points[3, ::-1], *points[::-1, 0]]
    np.testing.assert_allclose(around.get_xydata(), clockwise, atol=1e-5)
    assert upper.get_color() != around.get_color()


@pytest.mark.parametrize("align_corners", [False, True])
def test_the_lines_of_a_grid(axes, align_corners):
    grid = affine_grid(THETA, (4, 6), align_corners=align_corners)
    lines = draw_grid(grid, SIZE, step=2, align_corners=align_corners, axes=axes)
    points = points_of(THETA, SIZE, (4, 6), align_corners)
    rows = [points[i] for i in (0, 2, 3)]  # the last row too
    columns = [points[:, j] for j in (0, 2, 4, 5)]
    segments = lines.get_segments()
    assert len(segments) == 7
    for segment, expected in zip(segments, rows + columns, strict=True):
        np.testing.assert_allclose(segment, expected, atol=1e-5)


def test_a_large_grid_stays_legible(axes):
    lines = draw_grid(affine_grid(np.eye(2, 3), (160, 320)), SIZE, axes=axes)
    assert len(lines.get_segments()) == 17 + 17


def test_the_axes_hold_a_grid_outside_of_the_image(axes, image):
    draw_image(image, axes=axes)
    draw_grid(affine_grid(3 * np.eye(2, 3), SIZE), SIZE, axes=axes)
    assert axes.get_xlim()[0] < -8
    assert axes.get_xlim()[1] > 16
    assert axes.get_ylim()[0] > 10 > axes.get_ylim()[1]  # y still points down


def test_a_line_ends_at_the_horizon(axes):
    """There the point of a homography is infinite."""
    theta = np.array([[1.0, 0, 0], [0, 1, 0], [2, 0, 0]], np.float32)
    grid = projective_grid(theta, (3, 5))
    assert not np.isfinite(grid[:, 2]).any()
    row = draw_grid(grid, SIZE, step=1, axes=axes).get_paths()[0].vertices
    np.testing.assert_array_equal(np.isfinite(row).all(axis=1), [1, 1, 0, 1, 1])


def test_the_arrows_of_a_field(axes, rng):
    flow = rng.normal(size=(*SIZE, 2)).astype(np.float32)
    arrows = draw_flow(flow, step=3, axes=axes)
    starts = [[0, 0], [3, 0], [6, 0], [0, 3], [3, 3], [6, 3]]
    np.testing.assert_array_equal(arrows.get_offsets(), starts)
    lengths = [flow[y, x] for x, y in starts]
    np.testing.assert_array_equal(np.stack([arrows.U, arrows.V], axis=-1), lengths)
    assert (arrows.angles, arrows.scale_units, arrows.scale) == ("xy", "xy", 1)


# kernels, by their formulas

CUBIC = {"bicubic": -0.75, "catmull_rom": -0.5}


def keys(d, a):
    d = np.abs(d)
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0))


@pytest.mark.parametrize("method", CUBIC)
def test_the_curve_of_a_cubic_kernel(method, axes):
    distance, weight = draw_kernel(method, radius=3, axes=axes).get_data()
    assert distance[0] > -3 > distance[0] - 0.02
    np.testing.assert_allclose(weight, keys(distance, CUBIC[method]), atol=1e-6)


def test_the_curve_of_a_custom_kernel_is_cut_at_its_support(axes):
    kernel = Kernel(1.5, lambda d: 2.0 + 0 * d)
    distance, weight = draw_kernel(kernel, axes=axes).get_data()
    np.testing.assert_array_equal(weight, np.where(np.abs(distance) <= 1.5, 2.0, 0.0))


def cardinal(f, degree, at_integers):
    """The response of an interpolating B-spline: that of the B-spline, divided by that
    of its values at the integers 0, 1, ...
    """
    middle, *sides = at_integers
    waves = [2 * w * np.cos(2 * np.pi * f * (i + 1)) for i, w in enumerate(sides)]
    return np.sinc(f) ** (degree + 1) / (middle + sum(waves))


RESPONSES = {
    "nearest": np.sinc,
    "bilinear": lambda f: np.sinc(f) ** 2,
    "bspline2": lambda f: cardinal(f, 2, [6 / 8, 1 / 8]),
    "bspline3": lambda f: cardinal(f, 3, [4 / 6, 1 / 6]),
    "bspline5": lambda f: cardinal(f, 5, [66 / 120, 26 / 120, 1 / 120]),
}


@pytest.mark.parametrize("method", RESPONSES)
def test_frequency_responses(method, axes):
    frequency, response = draw_response(method, axes=axes).get_data()
    assert (frequency[0], frequency[-1]) == (0, 2)
    expected = np.abs(RESPONSES[method](frequency))
    np.testing.assert_allclose(response, expected, atol=1e-3)


def test_the_response_of_a_kernel_wider_than_16_pixels(axes):
    box = Kernel(20.0, lambda d: 1 / 40 + 0 * d)
    frequency, response = draw_response(box, highest=0.1, axes=axes).get_data()
    np.testing.assert_allclose(response, np.abs(np.sinc(40 * frequency)), atol=1e-3)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: draw_image(np.ones((4, 4))), r"image must be .* got shape \(4, 4\)"),
        (lambda: draw_image(np.ones((4, 4, 2))), "image must be"),
        (lambda: draw_grid(np.zeros((2, 4, 4, 2)), SIZE), r"grid must be \(h, w, 2\)"),
        (lambda: draw_grid(np.zeros((4, 4, 2)), (2, 3, 4)), "size must be"),
        (lambda: draw_grid(np.zeros((4, 4, 2)), SIZE, step=0), "step must be"),
        (lambda: draw_outline(np.zeros((4, 4, 3)), SIZE), "grid must"),
        (lambda: draw_flow(np.zeros((4, 4, 3))), "flow must be"),
        (lambda: draw_kernel("lanczos2"), "method must be one of"),
        (lambda: draw_kernel("nearest", radius=0), "radius must be in"),
        (lambda: draw_response("nearest", highest=17), "highest must be in"),
    ],
)
def test_bad_input(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


def test_without_axes_it_draws_on_pyplots():
    code = """
from matplotlib import pyplot
from stn_jax.drawing import draw_kernel
pyplot.switch_backend("agg")
assert draw_kernel("bilinear").axes is pyplot.gca()
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_without_matplotlib_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        draw_image(np.ones((4, 4, 1)))

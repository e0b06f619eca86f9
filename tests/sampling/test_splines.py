"""B-spline interpolation, against SciPy."""

import numpy as np
import pytest
from scipy import ndimage

from stn_jax import sample
from stn_jax.sampling.kernels import SPLINES
from stn_jax.sampling.splines import MARGIN

MODES = ["zeros", "border", "reflection", "wrap"]
pytestmark = pytest.mark.usefixtures("strict")


def pixels(rng, size, low=-6.0, high=12.0):
    return rng.uniform(low, high, size=(*size, len(size)))


def scipy_spline(image, points, degree, numpy_mode, **options):
    """SciPy's prefilter stops at the image's edge or soon behind it: pad first."""
    padded = np.pad(image, 2 * MARGIN, mode=numpy_mode, **options)
    where = np.moveaxis(points[..., ::-1], -1, 0) + 2 * MARGIN
    return ndimage.map_coordinates(padded, where, order=degree, mode="mirror")


@pytest.mark.slow
@pytest.mark.parametrize("degree", [2, 3, 4, 5])
@pytest.mark.parametrize(
    ("padding_mode", "align_corners", "numpy_mode"),
    [
        ("reflection", False, "symmetric"),
        ("reflection", True, "reflect"),
        ("wrap", False, "wrap"),
        ("border", False, "edge"),
        ("constant", False, "constant"),
    ],
)
@pytest.mark.parametrize("size", [(9, 7)])
def test_splines_agree_with_scipy(
    x64, rng, degree, padding_mode, align_corners, numpy_mode, size
):
    image, points = rng.normal(size=size), pixels(rng, (6, 5, 3)[: len(size)])
    out = sample(
        image[..., None],
        points,
        method=f"bspline{degree}",
        padding_mode=padding_mode,
        fill_value=0.7 if padding_mode == "constant" else 0.0,
        align_corners=align_corners,
        coordinates="pixel",
    )
    options = {"constant_values": 0.7} if numpy_mode == "constant" else {}
    expected = scipy_spline(image, points, degree, numpy_mode, **options)
    np.testing.assert_allclose(out[..., 0], expected, atol=1e-10)


def test_wrapped_splines_are_scipys_grid_wrap(x64, rng):
    image, points = rng.normal(size=(9, 7)), pixels(rng, (6, 5))
    out = sample(
        image[..., None],
        points,
        method="bspline3",
        padding_mode="wrap",
        coordinates="pixel",
    )
    where = np.moveaxis(points[..., ::-1], -1, 0)
    expected = ndimage.map_coordinates(image, where, order=3, mode="grid-wrap")
    np.testing.assert_allclose(out[..., 0], expected, atol=1e-10)


@pytest.mark.parametrize("degree", [2, 3, 4, 5])
def test_splines_in_single_precision(rng, degree):
    image = rng.normal(size=(40, 30)).astype(np.float32)
    points = pixels(rng, (20, 20), 0, 29).astype(np.float32)
    out = sample(
        image[..., None],
        points,
        method=f"bspline{degree}",
        padding_mode="reflection",
        coordinates="pixel",
    )
    expected = scipy_spline(
        image.astype(float), points.astype(float), degree, "symmetric"
    )
    np.testing.assert_allclose(out[..., 0], expected, atol=1e-5 * np.abs(image).max())


@pytest.mark.parametrize("method", SPLINES)
@pytest.mark.parametrize(
    "padding_mode",
    ["zeros", *(pytest.param(m, marks=pytest.mark.slow) for m in MODES[1:])],
)
def test_splines_go_through_the_pixels(rng, method, padding_mode):
    """To 2e-6 of the largest pixel in single precision."""
    image = rng.normal(size=(16, 12, 1)).astype(np.float32)
    grid = np.stack(np.indices((16, 12))[::-1], axis=-1).astype(np.float32)
    out = sample(
        image, grid, method=method, padding_mode=padding_mode, coordinates="pixel"
    )
    np.testing.assert_allclose(out, image, atol=2e-6 * np.abs(image).max())

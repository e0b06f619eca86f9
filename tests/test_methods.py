"""The kernels: each against its definition, SciPy's splines, and the laws of all."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references
from gradients import check_derivatives
from scipy import ndimage

from stn_jax import Kernel, identity_grid, inside, sample, to_pixels
from stn_jax.sampling.kernels import METHODS, SPLINES, taps
from stn_jax.sampling.splines import MARGIN

SHARP = [name for name in METHODS if name not in SPLINES]
MODES = ["zeros", "border", "reflection", "wrap"]

pytestmark = pytest.mark.usefixtures("strict")


def pixels(rng, size, low=-6.0, high=12.0):
    return rng.uniform(low, high, size=(*size, len(size)))


# values; docs/support.md and what makes it compare all methods with their definitions


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


# laws


@pytest.mark.parametrize(
    ("method", "size"),
    [
        *((method, (5, 7)) for method in SHARP if method != "lanczos3"),
        pytest.param("lanczos3", (5, 7), marks=pytest.mark.slow),
        *((method, (3, 2, 4)) for method in ("nearest", "bilinear")),
        *(
            pytest.param(method, (3, 2, 4), marks=pytest.mark.slow)
            for method in ("bicubic", "catmull_rom", "lanczos3")
        ),
    ],
)
def test_the_identity_and_shifts_in_pixels_are_exact(rng, method, size):
    image = rng.normal(size=(*size, 2)).astype(np.float32)
    grid = np.stack(np.indices(size)[::-1], axis=-1).astype(np.float32)
    out = jax.jit(lambda g: sample(image, g, method=method, coordinates="pixel"))(grid)
    np.testing.assert_array_equal(out, image)
    out = sample(image, grid - 1, method=method, coordinates="pixel")
    inner = (slice(1, None),) * len(size)
    kept = (slice(None, -1),) * len(size)
    np.testing.assert_array_equal(out[inner], image[kept])
    np.testing.assert_array_equal(out[0], np.zeros_like(out[0]))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "align_corners", [False, pytest.param(True, marks=pytest.mark.slow)]
)
def test_the_identity_through_a_normalized_grid(rng, method, align_corners):
    """Exact to the rounding of the coordinates: eps n pixels on an axis of n, times the
    slope of the picture, at most 2 per pixel here for each axis.
    """
    size, eps = (13, 300), np.finfo(np.float32).eps
    image = rng.uniform(0, 1, size=(*size, 1)).astype(np.float32)
    grid = identity_grid(size, align_corners=align_corners)
    pixels = to_pixels(grid, size, align_corners=align_corners)
    index = np.stack(np.indices(size)[::-1], axis=-1)
    error = np.abs(pixels - index.astype(np.float32)).max(axis=(0, 1))
    assert (error <= eps * np.array(size[::-1])).all()
    out = sample(
        image, grid, method=method, padding_mode="border", align_corners=align_corners
    )
    assert np.abs(out - image).max() <= 4 * sum(size) * eps


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


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("padding_mode", ["border", "reflection", "wrap"])
def test_a_constant_image_stays_constant(rng, method, padding_mode):
    image = jnp.full((6, 5, 1), 3.0)
    out = sample(
        image,
        pixels(rng, (8, 8)).astype(np.float32),
        method=method,
        padding_mode=padding_mode,
        coordinates="pixel",
    )
    np.testing.assert_allclose(out, 3.0, rtol=2e-6)


# the paper's generic kernel


def test_a_kernel_of_ones_own_is_the_built_in_one(x64, rng):
    image, points = rng.normal(size=(5, 6, 2)), pixels(rng, (4, 3))

    def tent(d):
        return jnp.maximum(0, 1 - jnp.abs(d))

    out = sample(image, points, method=Kernel(1, tent), coordinates="pixel")
    expected = sample(image, points, coordinates="pixel")
    np.testing.assert_allclose(out, expected, atol=1e-14)


@pytest.mark.parametrize("support", [0.5, 0.8, 1.0, 1.3, 2.0])
def test_a_kernel_counts_within_its_support_alone(x64, rng, support):
    image, points = rng.normal(size=(6, 7, 1)), pixels(rng, (5, 4))
    kernel = Kernel(support, lambda d: 1.5 - d + 0.3 * d**2)  # not symmetric
    out = sample(image, points, method=kernel, padding_mode="wrap", coordinates="pixel")
    expected = references.sample_pixels(
        image, points, lambda d: 1.5 - d + 0.3 * d**2, support, "wrap"
    )
    np.testing.assert_allclose(out, expected, atol=1e-12)


@pytest.mark.slow
def test_a_kernels_parameters_are_learnt(rng):
    """A Gaussian's width, by its gradient, through jit and vmap."""
    image = jnp.array(rng.normal(size=(8, 8, 1)), jnp.float32)
    grid = identity_grid((8, 8))

    def blurred(width, image):
        kernel = Kernel(3, lambda d: jnp.exp(-((d / width) ** 2)) / width)
        return sample(image, grid, method=kernel, padding_mode="border")

    images = jnp.stack([image, 2 * image])
    target = jax.vmap(blurred, (None, 0))(jnp.float32(1.4), images)

    @jax.jit
    def loss(width):
        return ((jax.vmap(blurred, (None, 0))(width, images) - target) ** 2).mean()

    width = jnp.float32(0.9)
    for _ in range(200):
        width = width - 0.02 * jax.grad(loss)(width)
    np.testing.assert_allclose(width, 1.4, atol=1e-3)


@pytest.mark.parametrize("support", [0, -1, float("inf"), float("nan")])
def test_a_kernels_support_is_positive(support):
    with pytest.raises(ValueError, match="support must be positive pixels"):
        Kernel(support, jnp.abs)


# gradients


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"nearest"}))
def test_the_weights_of_all_kernels_have_second_derivatives(x64, rng, method):
    """And all kernels but nearest some first ones."""

    def weights(x):
        return jnp.stack(taps(method, x)[1])

    points = rng.integers(-2, 6, size=9) + rng.uniform(0.1, 0.9, size=9)
    (slope,), *_ = check_derivatives(weights, [points])
    assert (jnp.abs(slope) > 1e-6).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "padding_mode"),
    [
        ("bicubic", "zeros"),
        ("catmull_rom", "reflection"),
        ("bspline2", "zeros"),
        ("bspline3", "wrap"),
    ],
)
def test_smooth_kernels_have_second_derivatives(x64, rng, method, padding_mode):
    image = rng.normal(size=(4, 5, 1))
    points = rng.integers(-2, 6, size=(2, 2, 2)) + rng.uniform(0.1, 0.9, (2, 2, 2))

    def read(image, points):
        return sample(
            image, points, method=method, padding_mode=padding_mode, coordinates="pixel"
        )

    check_derivatives(read, [image, points])


@pytest.mark.parametrize(
    "method",
    [
        "bilinear",
        *(
            pytest.param(method, marks=pytest.mark.slow)
            for method in ("bicubic", "catmull_rom", "lanczos3")
        ),
    ],
)
def test_on_the_lattice_gradients_are_the_right_hand_ones(x64, rng, method):
    image = jnp.array(rng.normal(size=(1, 8, 1)))

    @jax.jit
    def read(x):
        point = jnp.stack([x, jnp.zeros_like(x)])[None, None]
        return sample(image, point, method=method, coordinates="pixel")[0, 0, 0]

    slope_at = jax.jit(jax.grad(read))
    for x in range(-1, 8):
        step = 1e-6
        expected = (read(jnp.float64(x + step)) - read(jnp.float64(x))) / step
        slope = slope_at(jnp.float64(x))
        np.testing.assert_allclose(slope, expected, atol=1e-4)


def test_nearest_has_no_gradient_in_the_grid_and_one_in_the_image():
    image, grid = jnp.ones((3, 3, 1)), jnp.full((2, 2, 2), 0.1)
    slopes = jax.grad(lambda i, g: sample(i, g, method="nearest").sum(), (0, 1))(
        image, grid
    )
    assert (slopes[1] == 0).all()
    assert slopes[0].sum() == 4


# label masks


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.int32, bool])
def test_nearest_keeps_integers_and_booleans(dtype):
    mask = jnp.array([[0, 1], [1, 0]], dtype)[..., None]
    grid = jnp.array([[[0.4, 0.0], [0.5, 0.0], [5.0, 0.0], [jnp.nan, 0.0]]])
    out = sample(mask, grid, method="nearest", coordinates="pixel")
    assert out.dtype == dtype
    np.testing.assert_array_equal(out[0, :, 0], np.array([0, 1, 0, 0], dtype))
    large = jnp.full((2, 2, 1), 2**24 + 1, jnp.int32)  # no float32
    out = sample(large, grid[:, :2], method="nearest", coordinates="pixel")
    np.testing.assert_array_equal(out, 2**24 + 1)


def test_a_fill_value_must_be_one_of_the_masks_values():
    mask = jnp.zeros((2, 2, 1), jnp.int32)
    options = {"method": "nearest", "padding_mode": "constant"}
    out = sample(mask, jnp.full((1, 1, 2), 9.0), fill_value=-1, **options)
    assert out.item() == -1
    with pytest.raises(ValueError, match=r"fill_value=0\.5 is no value of int32"):
        sample(mask, jnp.zeros((1, 1, 2)), fill_value=0.5, **options)


# options


@pytest.mark.parametrize("method", ["bilinear", "bspline3"])
def test_one_padding_mode_for_each_axis(rng, method):
    """A panorama: it wraps in x and ends in y."""
    image = rng.normal(size=(4, 6, 1)).astype(np.float32)
    points = pixels(rng, (7, 7), -9, 14).astype(np.float32)
    out = sample(
        image,
        points,
        method=method,
        padding_mode=("border", "wrap"),
        coordinates="pixel",
    )
    tiled = np.tile(image, (1, 9, 1))
    points = points + np.array([24, 0], np.float32)
    expected = sample(
        tiled, points, method=method, padding_mode="border", coordinates="pixel"
    )
    np.testing.assert_allclose(out, expected, atol=1e-4)


@pytest.mark.parametrize("method", ["nearest", "bilinear", "bicubic", "bspline3"])
def test_a_hard_edge(rng, method):
    image = rng.normal(size=(5, 6, 2)).astype(np.float32)
    points = pixels(rng, (9, 9), -2, 7).astype(np.float32)
    fill = jnp.array([7.0, -7.0])
    options = {"method": method, "coordinates": "pixel"}
    out = sample(image, points, outside="fill", fill_value=fill, **options)
    within = inside(points, (5, 6), coordinates="pixel")
    assert 0 < within.sum() < within.size
    bordered = sample(image, points, padding_mode="border", **options)
    expected = jnp.where(within[..., None], bordered, jnp.broadcast_to(fill, out.shape))
    chex.assert_trees_all_close(out, expected, atol=1e-5)


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "cubic"}, r"method must be one of 'nearest', .*, or a Kernel; got"),
        ({"method": 3}, "or a Kernel; got 3"),
        ({"coordinates": "pixels"}, "coordinates must be one of 'normalized', 'pixel'"),
        ({"outside": None}, "outside must be one of 'blend', 'fill'; got None"),
        ({"padding_mode": ("zeros", "constant")}, "not both"),
    ],
)
def test_unknown_options(options, message):
    with pytest.raises(ValueError, match=message):
        sample(jnp.zeros((3, 3, 1)), jnp.zeros((2, 2, 2)), **options)

"""The kernels: each against its definition or jax.image, and the laws of all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references
from gradients import check_derivatives

from stn_jax import Kernel, identity_grid, sample, to_pixels
from stn_jax.sampling.kernels import METHODS, SPLINES, nearest_pixels

SHARP = [name for name in METHODS if name not in SPLINES]
pytestmark = pytest.mark.usefixtures("strict")


def pixels(rng, size, low=-6.0, high=12.0):
    return rng.uniform(low, high, size=(*size, len(size)))


# jax.image


# jax.image leaves out taps beyond the edge and raises the others' weights: the kernels
# agree with ours as far from the edge as they reach, bilinear's also at the border
KERNELS = {
    "nearest": ("nearest", 0),
    "bilinear": ("linear", 0),
    "catmull_rom": ("cubic", 2),
    "lanczos3": ("lanczos3", 3),
}


# sizes that put no point halfway between pixels, where nearest depends on a rounding
CASES = [
    *((method, (9, 11), (17, 23)) for method in KERNELS),
    *((method, (20, 24), (9, 16)) for method in KERNELS),
    *((method, (5, 7, 7), (9, 7, 11)) for method in ("nearest", "bilinear")),
]


@pytest.mark.parametrize(("method", "size", "out_size"), CASES)
def test_resize(rng, method, size, out_size):
    """Up and down, without antialiasing, in pixels' edges as jax.image has them."""
    image = jnp.asarray(rng.normal(size=(*size, 2)), jnp.float32)
    name, reach = KERNELS[method]
    out = sample(image, identity_grid(out_size), method=method, padding_mode="border")
    shape = (*out_size, 2)
    expected = jax.image.resize(image, shape, name, antialias=False)
    margins = [int(np.ceil(reach * m / n)) for n, m in zip(size, out_size, strict=True)]
    inner = tuple(slice(k, n - k) for k, n in zip(margins, out_size, strict=True))
    assert out[inner].size
    np.testing.assert_allclose(out[inner], expected[inner], atol=1e-5)


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


def test_a_custom_tent_kernel_is_bilinear(x64, rng):
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
        return jnp.stack(nearest_pixels(method, x)[1])

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

    def sampled(image, points):
        return sample(
            image, points, method=method, padding_mode=padding_mode, coordinates="pixel"
        )

    check_derivatives(sampled, [image, points])


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
    def sampled(x):
        point = jnp.stack([x, jnp.zeros_like(x)])[None, None]
        return sample(image, point, method=method, coordinates="pixel")[0, 0, 0]

    slope_at = jax.jit(jax.grad(sampled))
    for x in range(-1, 8):
        step = 1e-6
        expected = (sampled(jnp.float64(x + step)) - sampled(jnp.float64(x))) / step
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


def test_label_masks_under_jit():
    labels = jnp.array([[[3], [1], [2]]])
    points = jnp.array([[[2.0, 0.0], [0.6, 0.0], [7.0, 0.0]]])

    @jax.jit
    def run(labels, points):
        return sample(labels, points, method="nearest", coordinates="pixel")

    assert run(labels, points)[0, :, 0].tolist() == [2, 1, 0]


def test_a_fill_value_must_be_one_of_the_masks_values():
    mask = jnp.zeros((2, 2, 1), jnp.int32)
    options = {"method": "nearest", "padding_mode": "constant"}
    out = sample(mask, jnp.full((1, 1, 2), 9.0), fill_value=-1, **options)
    assert out.item() == -1
    with pytest.raises(ValueError, match=r"fill_value=0\.5 is no value of int32"):
        sample(mask, jnp.zeros((1, 1, 2)), fill_value=0.5, **options)

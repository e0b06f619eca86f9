"""Resizing by a grid, against jax.image where the definitions agree."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references
from gradients import check_derivatives

from stn_jax import Kernel, identity_grid, sample, warp
from stn_jax.transforms import Affine, Attention, Translation

pytestmark = pytest.mark.usefixtures("strict")
# jax.image leaves out taps beyond the edge and raises the others' weights: the kernels
# agree with ours as far from the edge as they reach, bilinear's also at the border
KERNELS = {
    "nearest": ("nearest", 0),
    "bilinear": ("linear", 0),
    "catmull_rom": ("cubic", 2),
    "lanczos3": ("lanczos3", 3),
}
# sizes that put no point halfway between two pixels, where nearest hangs on a rounding
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


def test_scale_and_translate(rng):
    """Attention is jax.image's scaling and shifting, in other units."""
    image = jnp.asarray(rng.normal(size=(9, 12, 1)), jnp.float32)
    params = jnp.array([0.5, 0.2, -0.1])
    out = warp(image, Attention(), params, padding_mode="border")
    half = jnp.array([4.5, 6.0])
    scale = 1 / params[0] * jnp.ones(2)
    # output = scale * input + translation, with edges at 0 and n
    translation = half - scale * half * (1 + jnp.flip(params[1:]))
    expected = jax.image.scale_and_translate(
        image, image.shape, (0, 1), scale, translation, "linear", antialias=False
    )
    np.testing.assert_allclose(out, expected, atol=1e-5)


# antialiased

WIDE = {"bilinear": "linear", "catmull_rom": "cubic", "lanczos3": "lanczos3"}
antialiased = partial(warp, antialias=True, outside="fill")


@pytest.mark.parametrize(
    ("method", "out_size"),
    [
        ("bilinear", (7, 9)),
        ("bilinear", (1, 1)),
        ("lanczos3", (20, 5)),
        *(
            pytest.param(method, size, marks=pytest.mark.slow)
            for method in WIDE
            for size in [(7, 9), (25, 30), (20, 5), (1, 1)]
        ),
    ],
)
def test_antialiasing_is_that_of_jax(rng, method, out_size):
    """Shrunk, enlarged, and one of both; partly from outside the image."""
    size = (20, 27)
    images = jnp.asarray(rng.normal(size=(2, *size, 3)), jnp.float32)
    family, params = Attention(isotropic=False), jnp.array([1.7, 0.6, 0.1, -0.2])
    out = antialiased(images, family, params, out_size, method=method)
    zoom, shift = jnp.flip(params[:2]), jnp.flip(params[2:])  # y, x
    half = jnp.array(out_size, float) / 2
    scale = 2 * half / jnp.array(size, float) / zoom
    translation = half * (1 - (1 + shift) / zoom)
    expected = jax.image.scale_and_translate(
        images, (2, *out_size, 3), (1, 2), scale, translation, WIDE[method]
    )
    np.testing.assert_allclose(out, expected, atol=3e-5)


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("size", [(5, 1), (4, 9)])
def test_antialiasing_by_its_definition(rng, size, align_corners):
    """One channel after the other by plain loops, with a fill for each."""
    image = rng.normal(size=(*size, 2)).astype(np.float32)
    params = np.array([1.2, 0.1, 0.4], np.float32)
    out_size, fill = (3, 4), np.array([7.0, -7.0], np.float32)
    options = {"align_corners": align_corners, "fill_value": fill}
    out = antialiased(image, Attention(), params, out_size, **options)
    tables = []
    for n, n_out, shift in zip(size, out_size, (0.4, 0.1), strict=True):
        table = np.full((n_out, n), np.nan)
        step = n / n_out
        if align_corners:
            step = (n - 1) / (n_out - 1)
        for i in range(n_out):
            read = 1.2 * references.normalized(i, n_out, align_corners) + shift
            if abs(read) <= 1:
                x = references.pixel(read, n, align_corners)
                width = max(1.0, 1.2 * step)
                for m in range(n):
                    table[i, m] = max(0.0, 1 - abs(x - m) / width)
                table[i] /= table[i].sum()
        tables.append(table)
    expected = np.einsum("im,jn,mnc->ijc", *tables, image)
    assert np.isnan(expected).any()
    assert not np.isnan(expected).all()
    expected = np.where(np.isnan(expected), fill, expected)
    np.testing.assert_allclose(out, expected, atol=1e-5)


def test_antialiased_volumes_of_any_batch(rng):
    volume = jnp.asarray(rng.normal(size=(6, 8, 10, 1)), jnp.float32)
    identity = Attention(3).identity
    out = antialiased(volume, Attention(3), jnp.tile(identity, (2, 3, 1)), (3, 4, 4))
    expected = jax.image.resize(volume, (3, 4, 4, 1), "linear")
    np.testing.assert_allclose(out, np.tile(expected, (2, 3, 1, 1, 1, 1)), atol=1e-5)


@pytest.mark.slow
def test_antialiasing_keeps_dtypes(rng, x64):
    image = rng.normal(size=(8, 8, 1))
    params = jnp.array([1.5, 0.1, 0.2])
    exact = antialiased(image, Attention(), params, (3, 3))
    assert exact.dtype == jnp.float64
    for dtype, bound in (("bfloat16", 2**-8), ("float16", 2**-11), ("float32", 1e-6)):
        given = jnp.asarray(image, dtype)
        out = antialiased(given, Attention(), params.astype("float32"), (3, 3))
        expected = antialiased(given.astype("float64"), Attention(), params, (3, 3))
        assert out.dtype == dtype
        np.testing.assert_allclose(out.astype("float64"), expected, atol=4 * bound)
    both = antialiased(image * (1 + 2j), Attention(), params, (3, 3))
    np.testing.assert_allclose(both, np.asarray(exact) * (1 + 2j), atol=1e-12)


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
def test_derivatives_when_antialiasing(rng, x64, method):
    """Shrinking and enlarging, with reads outside."""

    def read(image, params):
        return antialiased(image, Attention(), params, (4, 3), method=method)

    image = rng.normal(size=(9, 8, 2))
    check_derivatives(read, *([image, np.array([s, 0.13, 0.21])] for s in (1.1, 0.3)))


@pytest.mark.slow
def test_a_kernel_of_ones_own_is_widened(rng):
    image = jnp.asarray(rng.normal(size=(9, 8, 2)), jnp.float32)
    tent = Kernel(1.0, lambda d: 1 - jnp.abs(d))
    params = jnp.array([1.5, 0.0, 0.1])
    ours = antialiased(image, Attention(), params, (4, 3), method=tent)
    np.testing.assert_allclose(
        ours, antialiased(image, Attention(), params, (4, 3)), atol=1e-6
    )


def test_coordinates_that_are_not_finite():
    image = jnp.ones((4, 4, 1))
    for shift, other, seen in (
        (jnp.nan, 0.0, jnp.nan),
        (jnp.nan, 9.0, jnp.nan),
        (jnp.inf, 0.0, 7.0),
        (1e30, 0.0, 7.0),
    ):
        params = jnp.array([shift, other])
        out = antialiased(image, Translation(), params, fill_value=7.0)
        np.testing.assert_array_equal(out, np.full((4, 4, 1), seen))
        slope = jax.grad(
            lambda p: antialiased(image, Translation(), p, fill_value=7.0).sum()
        )(params)
        assert jnp.isnan(shift) or (slope == 0).all()


@pytest.mark.parametrize(
    ("family", "options", "message"),
    [
        (Affine(), {}, "axis-aligned families, .* got Affine"),
        (Attention(), {"outside": "blend"}, "got outside='blend'"),
        (Attention(), {"padding_mode": "wrap"}, "padding_mode='wrap'"),
        (Attention(), {"method": "nearest"}, "method under antialias=True must be one"),
        (Attention(), {"method": "bspline3"}, "got 'bspline3'"),
        (
            Attention(3),
            {},
            r"image must have 3 axes of pixels .* got shape \(4, 5, 1\)",
        ),
    ],
)
def test_what_antialiasing_does_not_go_with(family, options, message):
    with pytest.raises(ValueError, match=message):
        antialiased(jnp.ones((4, 5, 1)), family, family.identity, **options)

"""Axis-aligned families: one matrix product for each axis, and antialiasing."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references
from gradients import by_gather_and_dense, check_derivatives

from stn_jax import Kernel, warp
from stn_jax.transforms import Affine, Attention, Translation

SIZES = {2: (5, 6), 3: (3, 4, 5)}
exhaustive = partial(pytest.param, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("transform", "method", "outside", "align_corners"),
    [
        (Attention(2), "bilinear", "blend", False),
        exhaustive(Attention(2, isotropic=False), "bicubic", "fill", True),
        exhaustive(Attention(2), "bspline3", "blend", True),
        exhaustive(Attention(2), "bilinear", "fill", True),
        exhaustive(Attention(2), "bspline3", "fill", False),
        exhaustive(Translation(3), "bilinear", "blend", False),
        exhaustive(Translation(3), "bicubic", "fill", True),
    ],
)
def test_axis_aligned_families(rng, x64, transform, method, outside, align_corners):
    image = rng.normal(size=(2, *SIZES[transform.ndim], 3))
    params = np.asarray(transform.identity) + rng.uniform(
        -0.4, 0.4, size=(2, transform.num_params)
    )
    options = {"method": method, "outside": outside, "align_corners": align_corners}
    options |= {"padding_mode": "constant", "fill_value": 0.5}
    size = (4, 7, 3)[: transform.ndim]
    gather, dense = by_gather_and_dense(
        lambda image, params, **way: warp(
            image, transform, params, size, **options, **way
        ),
        image,
        params,
    )
    chex.assert_trees_all_close(gather, dense, rtol=1e-11, atol=1e-11)


pytestmark = pytest.mark.usefixtures("strict")


# antialiasing


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
            point = 1.2 * references.normalized(i, n_out, align_corners) + shift
            if abs(point) <= 1:
                x = references.pixel(point, n, align_corners)
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
    """Shrinking and enlarging, with samples outside."""

    def sampled(image, params):
        return antialiased(image, Attention(), params, (4, 3), method=method)

    image = rng.normal(size=(9, 8, 2))
    check_derivatives(
        sampled, *([image, np.array([s, 0.13, 0.21])] for s in (1.1, 0.3))
    )


@pytest.mark.slow
def test_a_custom_kernel_is_widened(rng):
    image = jnp.asarray(rng.normal(size=(9, 8, 2)), jnp.float32)
    tent = Kernel(1.0, lambda d: 1 - jnp.abs(d))
    params = jnp.array([1.5, 0.0, 0.1])
    ours = antialiased(image, Attention(), params, (4, 3), method=tent)
    np.testing.assert_allclose(
        ours, antialiased(image, Attention(), params, (4, 3)), atol=1e-6
    )


def test_coordinates_that_are_not_finite():
    image = jnp.ones((4, 4, 1))
    for shift, other, expected in (
        (jnp.nan, 0.0, jnp.nan),
        (jnp.nan, 9.0, jnp.nan),
        (jnp.inf, 0.0, 7.0),
        (1e30, 0.0, 7.0),
    ):
        params = jnp.array([shift, other])
        out = antialiased(image, Translation(), params, fill_value=7.0)
        np.testing.assert_array_equal(out, np.full((4, 4, 1), expected))
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
def test_what_antialiasing_refuses(family, options, message):
    with pytest.raises(ValueError, match=message):
        antialiased(jnp.ones((4, 5, 1)), family, family.identity, **options)

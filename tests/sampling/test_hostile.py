"""Extreme inputs: never a crash, another pixel's value, or a NaN gradient."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stn_jax import Kernel, bilinear_sample, sample, to_pixels
from stn_jax.sampling.kernels import METHODS
from stn_jax.sampling.padding import FAR, RULES
from stn_jax.sampling.plan import Axis

MODES = list(RULES)
TENT = Kernel(1, lambda d: jnp.maximum(0, 1 - jnp.abs(d)))
# the rules and the kernels do not know each other: all rules under one kernel, all
# kernels under some rule
CASES = [
    *(("bilinear", mode, (5, 3)) for mode in MODES),
    ("bicubic", "border", (1, 3)),
    *(
        pytest.param(method, mode, (1, 4), marks=pytest.mark.slow if taps > 1 else ())
        for (method, (taps, _)), mode in zip(METHODS.items(), MODES * 2, strict=False)
    ),
    (TENT, "wrap", (5, 3)),
    pytest.param("bilinear", "wrap", (1, 1), marks=pytest.mark.slow),
    pytest.param("bilinear", "constant", (1, 1), marks=pytest.mark.slow),
    pytest.param("bilinear", "reflection", (2, 1, 3), marks=pytest.mark.slow),
    pytest.param("catmull_rom", "border", (1, 2), marks=pytest.mark.slow),
]
SPECIAL = [
    *(0.0, -0.0, 1.0, -1.0, 1e-45, -1e-45, 1e-38, 1.5e-8, 0.99999994),
    *(1e30, -1e30, 3e38, -3e38, 2.0**23, -(2.0**23), 2.0**31, -(2.0**31), 1e7),
    *(np.inf, -np.inf, np.nan),
]
OVERSHOOT = 0.5  # of a step, under the sharpest of the kernels

hostile = st.one_of(
    st.floats(width=32, allow_subnormal=True),
    st.floats(-3, 3, width=32),
    st.sampled_from(SPECIAL),
)


def all_pairs(ndim):
    """Every special coordinate with every other."""
    axes = np.meshgrid(*[np.array(SPECIAL, np.float32)] * 2)
    points = np.stack(axes, axis=-1).reshape(-1, 2)
    return np.concatenate([points, np.zeros((len(points), ndim - 2), np.float32)], 1)


@partial(jax.jit, static_argnames=("method", "padding_mode", "align_corners"))
def sampled(image, points, method, padding_mode, align_corners):
    """The values (P,), their slopes in the points (P, n), and those in the image, for
    all but the largest kernels.
    """

    def total(image, points):
        grid = points.reshape(-1, *(1,) * (points.shape[1] - 1), points.shape[1])
        out = sample(
            image,
            grid,
            method=method,
            padding_mode=padding_mode,
            align_corners=align_corners,
        )
        out = out.reshape(-1)
        return jnp.where(jnp.isnan(out), 0, out).sum(), out

    large = isinstance(method, str) and METHODS[method][0] > 4  # as are their programs
    gradient = jax.grad(total, 1 if large else (1, 0), has_aux=True)
    slopes, out = gradient(image, points)
    return (out, slopes, None) if large else (out, *slopes)


def check(points, method, padding_mode, size, align_corners):
    """Values are of the image 1 and the padding 0 or 1; slopes are finite."""
    image = jnp.ones((*size, 1))
    out, of_points, of_image = sampled(
        image, points, method, padding_mode, align_corners
    )
    is_nan = np.isnan(points).any(axis=1)
    np.testing.assert_array_equal(np.isnan(out), is_nan)
    known = out[~is_nan]
    assert ((known >= -OVERSHOOT) & (known <= 1 + OVERSHOOT)).all()
    assert of_image is None or jnp.isfinite(of_image).all()
    assert jnp.isfinite(of_points[~is_nan]).all()
    pixels = np.abs(to_pixels(points, size, align_corners=align_corners))
    is_far = (pixels > FAR + 2**10).any(axis=1) & ~is_nan
    if padding_mode != "border":  # the padding itself
        np.testing.assert_array_equal(out[is_far], np.zeros(is_far.sum()))
    far = (pixels > 2.0**31) & ~is_nan[:, None]
    assert (np.asarray(of_points)[far] == 0).all()
    if padding_mode in ("border", "reflection", "wrap"):  # the image and nothing else
        is_near = ~is_nan & ((pixels < FAR).all(axis=1) | (padding_mode == "border"))
        np.testing.assert_allclose(out[is_near], 1, atol=5e-6)


@pytest.mark.parametrize(("method", "padding_mode", "size"), CASES)
def test_only_pixels_or_padding_show_at_any_coordinates(method, padding_mode, size):
    pairs = all_pairs(len(size))

    @settings(max_examples=15, deadline=None)
    @given(
        points=arrays(np.float32, (9, len(size)), elements=hostile),
        align_corners=st.booleans() if method == "bilinear" else st.just(False),
    )
    @example(points=np.zeros((9, len(size)), np.float32), align_corners=False)
    def run(points, align_corners):
        points = np.concatenate([pairs, points])
        check(points, method, padding_mode, size, align_corners)

    run()


@settings(max_examples=100, deadline=None)
@given(arrays(np.float32, (4,), elements=hostile), st.booleans())
def test_pixels_come_back_as_they_are(pixels, corners):
    """Under nearest any; where neighbors count, with weight 0, those that are finite
    (0 times infinity is NaN) and no denormals, which XLA takes for 0.
    """
    image = jnp.asarray(pixels)[None, :, None]
    points = np.array([[[i, 0.0] for i in range(4)]], np.float32)
    out = _read_pixels(image, points, "nearest", corners)[0, :, 0]
    np.testing.assert_array_equal(out, pixels)
    if np.isfinite(pixels).all():
        for method in ("bilinear", "bicubic"):
            out = _read_pixels(image, points, method, corners)[0, :, 0]
            np.testing.assert_allclose(out, pixels, rtol=0, atol=2e-38)


@partial(jax.jit, static_argnums=(2, 3))
def _read_pixels(image, points, method, corners):
    options = {"coordinates": "pixel", "align_corners": corners}
    return sample(image, points, method=method, padding_mode="border", **options)


@pytest.mark.parametrize("method", ["nearest", "bilinear", "bspline2"])
def test_empty_batches_and_empty_grids(method):
    out = sample(jnp.zeros((0, 3, 3, 1)), jnp.zeros((0, 2, 4, 2)), method=method)
    assert out.shape == (0, 2, 4, 1)
    out = sample(jnp.zeros((2, 3, 3, 1)), jnp.zeros((0, 4, 2)), method=method)
    assert out.shape == (2, 0, 4, 1)
    out = sample(jnp.zeros((3, 3, 0)), jnp.zeros((2, 4, 2)), method=method)
    assert out.shape == (2, 4, 0)


@pytest.mark.parametrize("implementation", [None, "dense"])
@pytest.mark.parametrize(
    "method",
    [
        m if METHODS[m][0] < 4 else pytest.param(m, marks=pytest.mark.slow)
        for m in METHODS
    ],
)
def test_gradients_without_channels(method, implementation):
    image, grid = jnp.zeros((3, 3, 0)), jnp.zeros((2, 4, 2))
    options = {"method": method, "implementation": implementation}
    slopes = jax.grad(lambda *a: sample(*a, **options).sum(), (0, 1))(image, grid)
    assert slopes[0].shape == image.shape
    np.testing.assert_array_equal(slopes[1], np.zeros_like(grid))


# images near the limits of int32, none of which is ever allocated

LARGEST = 2**31 - 1


@pytest.mark.parametrize("padding_mode", MODES)
@pytest.mark.parametrize("size", [(1, LARGEST), (LARGEST, 2), (2**20, 2**20)])
def test_indices_are_per_axis_and_never_flattened(size, padding_mode):
    image = jax.ShapeDtypeStruct((*size, 1), jnp.bfloat16)
    grid = jax.ShapeDtypeStruct((3, 2, 2), jnp.float32)

    def sampled(image, grid):
        return bilinear_sample(image, grid, padding_mode=padding_mode)

    program = jax.make_jaxpr(sampled)(image, grid)
    shapes = [
        v.aval.shape for eqn in program.jaxpr.eqns for v in (*eqn.invars, *eqn.outvars)
    ]
    assert program.out_avals[0].shape == (3, 2, 1)
    large = {shape for shape in shapes if np.prod(shape, dtype=float) > 1e6}
    assert large <= {image.shape}
    assert jax.jit(sampled).lower(image, grid).compile()


@pytest.mark.parametrize("padding_mode", MODES)
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("n", [2**30 - 1, 2**30, 2**30 + 1, LARGEST])
def test_rules_at_the_limits(padding_mode, align_corners, n):
    """Against the rules in Python's integers, which have no limits."""
    near = [-FAR, -5, -1, 0, 1, 5, FAR]
    edge = [-(2**31) + 40, n - 40, min(n, 2**31 - 50), 2**31 - 50]
    index = jnp.asarray([*near, *edge], jnp.int32)
    pixel, present = RULES[padding_mode](index, n, align_corners)
    assert ((pixel >= 0) & (pixel < n)).all()
    for i, ours, is_there in zip([*near, *edge], pixel, present, strict=True):
        if padding_mode in ("zeros", "constant"):
            assert is_there == (0 <= i < n)
            assert not is_there or ours == i
        elif padding_mode == "border":
            assert is_there
            assert ours == min(max(i, 0), n - 1)
        else:
            assert is_there == (abs(i) <= FAR)
            mirrored = -i if align_corners else -1 - i
            before = mirrored if padding_mode == "reflection" else n + i
            assert not is_there or ours == (i if i >= 0 else before)


def test_the_last_of_two_billion_pixels_is_the_border():
    """An infinite coordinate samples the edge, however far away that is."""
    n = 2**31 - 2**7
    axis = Axis(n, "border", 0, False, "normalized")
    x = jnp.array([jnp.inf, 1e30, -jnp.inf])
    (lower, _, _), (upper, _, _) = axis.taps("bilinear", x)
    np.testing.assert_array_equal(lower, [n - 1, n - 1, 0])
    np.testing.assert_array_equal(upper, [n - 1, n - 1, 0])

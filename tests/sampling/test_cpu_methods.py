"""The compiled CPU kernel and plain JAX agree, for every method, padding and dtype."""

import itertools
import os
import random
import shutil
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import enable_x64
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stn_jax import sample
from stn_jax.sampling.cpu import compiler
from stn_jax.sampling.cpu.weights import polynomials
from stn_jax.sampling.kernels import METHODS
from stn_jax.sampling.padding import RULES

if "CXX" not in os.environ and not any(map(shutil.which, compiler.COMPILERS)):
    pytest.skip("no C++ compiler is here", allow_module_level=True)

# of a sum of numbers near 1, by the dtype of the image
TOLERANCES = {"float32": 2e-4, "float64": 1e-11, "bfloat16": 4e-2, "float16": 6e-3}
SPECIAL = [*(np.nan, np.inf, -np.inf), *(2.0**23, -(2.0**23), 1e9, -3e38, 2.0**31)]
SIZES = [(5, 6), (9, 2), (1, 4), (1, 1), (3, 4, 5), (2, 1, 3)]


class Combination(NamedTuple):
    """What is compiled once."""

    method: str
    mode: str
    align_corners: bool
    size: tuple[int, ...]
    channels: int
    dtype: str
    images: int
    points: int
    wanted: tuple[int, ...] = (0, 1)  # gradients: of the image, of the grid


# one for each method, and for each padding mode, dtype and number of dimensions
SOME = [
    Combination("nearest", "border", False, (5, 6), 3, "float32", 2, 70),
    Combination("nearest", "zeros", False, (5, 6), 1, "bfloat16", 9, 70),
    Combination("bilinear", "reflection", True, (3, 4, 5), 9, "float16", 1, 70),
    Combination("bicubic", "zeros", False, (5, 6), 1, "float32", 9, 70),
    Combination("catmull_rom", "reflection", False, (9, 2), 3, "bfloat16", 2, 70),
    Combination("lanczos3", "wrap", False, (5, 6), 2, "float64", 1, 70),
    Combination("bspline2", "border", False, (1, 4), 4, "float32", 1, 70),
    Combination("bspline3", "constant", True, (2, 1, 3), 1, "float32", 2, 70),
    Combination("bspline5", "wrap", False, (5, 6), 40, "float32", 1, 70),
    Combination("bilinear", "zeros", False, (5, 6), 1, "float64", 2, 2000, (0,)),
]


def drawn(method, count):
    """So many combinations, the same in every run."""
    choose = random.Random(method).choice
    # 216 taps of a volume take a minute to compile without the kernel
    is_wide = METHODS[method][0] == 6
    sizes = [*SIZES[:4] * 4, *SIZES[4:]] if is_wide else SIZES
    return [
        Combination(
            method,
            choose(list(RULES)),
            choose([False, True]),
            choose(sizes),
            choose([1, 1, 2, 3, 4, 5, 8, 33]),
            choose(list(TOLERANCES)),
            choose([1, 2, 9]),
            choose([0, 1, 64, 70, 70, 2000]),
            choose([(0, 1), (0, 1), (0,), (1,)]),
        )
        for _ in range(count)
    ]


@cache
def programs(combination):
    """The values and gradients: compiled with the kernel, and without it."""
    options = {
        "method": combination.method,
        "padding_mode": combination.mode,
        "align_corners": combination.align_corners,
        "fill_value": 0.5 if combination.mode == "constant" else 0.0,
        "coordinates": "pixel",
    }

    def make(is_on):
        def both(image, grid, bar):
            inputs = [image, grid]

            def function(*wanted):
                given = dict(enumerate(inputs)) | dict(
                    zip(combination.wanted, wanted, strict=True)
                )
                return sample(given[0], given[1], **options)

            out, pull = jax.vjp(function, *(inputs[i] for i in combination.wanted))
            return out, *pull(bar)

        with pytest.MonkeyPatch.context() as patch, enable_x64():
            patch.setenv("STN_JAX_CPU", is_on)
            lowered = jax.jit(both).lower(*arrays(combination, 0, [0.0]))
            assert ("stn_jax_cpu_" in lowered.as_text()) == (is_on == "on")
            # most of the time is compilation
            return lowered.compile({"xla_backend_optimization_level": 0})

    return make("on"), make("off")


def arrays(combination, seed, coordinates):
    """Random images, points with these coordinates among them, and a cotangent.

    Points are in pixels, at multiples of 1/16: so both round them to the same place.
    """
    rng = np.random.default_rng(seed)
    _, _, _, size, channels, dtype, images, points, _ = combination
    count = (points,) if len(size) == 2 else (1, points)
    image = rng.normal(size=(images, *size, channels))
    grid = rng.integers(-160, 260, (images, 1, *count, len(size))) / 16
    flat = grid.reshape(-1)
    places = rng.integers(0, max(flat.size, 1), min(len(coordinates) * 8, flat.size))
    flat[places] = rng.choice(coordinates, places.size)
    bar = rng.normal(size=(*grid.shape[:-1], channels))
    grid = jnp.asarray(grid, jnp.float64 if dtype == "float64" else jnp.float32)
    return jnp.asarray(image, dtype), grid, jnp.asarray(bar, dtype)


def check(combination, seed, coordinates):
    with_kernel, plain = programs(combination)
    with enable_x64():
        inputs = arrays(combination, seed, coordinates)
        found, expected = with_kernel(*inputs), plain(*inputs)
    tolerance = TOLERANCES[combination.dtype]
    # the gradient of an image sums over the points
    largest = 1 + max(combination.points / np.prod(combination.size), 1) ** 0.5
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(
            np.asarray(ours, float),
            np.asarray(theirs, float),
            atol=tolerance * largest,
            rtol=tolerance,
        )


@pytest.mark.parametrize("method", [m for m in METHODS if m != "nearest"])
def test_weights_as_polynomials(method):
    """They are those of the method, and exact at the pixels."""
    taps, weights = METHODS[method]
    middle = 0.0 if taps % 2 else 0.5
    t = np.linspace(middle - 0.5, middle + 0.499, 200)
    coefficients = polynomials(method)
    value, slope, *curve = coefficients.T[..., None]
    powers = sum(c * (t - middle) ** d for d, c in enumerate(curve))
    found = value + slope * t + t * (1 - t) * powers
    with enable_x64():
        expected = np.stack([np.asarray(w) for w in weights(jnp.asarray(t))])
        at_pixel = np.stack([np.asarray(w) for w in weights(jnp.zeros(1))])
    np.testing.assert_allclose(found, expected, atol=1e-13)
    np.testing.assert_array_equal(value, at_pixel)


@pytest.mark.parametrize("combination", SOME, ids=str)
def test_agreement(kernel, combination):
    for seed in range(5):
        check(combination, seed, SPECIAL if seed % 2 else [0.0, 1.0, -0.5])


@pytest.fixture
def forgotten():
    """No programs are kept: those of one method take up to a quarter of all areas."""
    yield
    programs.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_agreement_everywhere(kernel, forgotten, method):
    """560 cases for each method, in 25 combinations: more than 5,000 of all nine."""
    coordinates = st.one_of(
        st.sampled_from(SPECIAL), st.integers(-99, 99).map(lambda i: i / 16)
    )

    @settings(
        max_examples=560,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(
        st.sampled_from(drawn(method, 25)),
        st.integers(0, 10**6),
        st.lists(coordinates, min_size=1, max_size=4),
    )
    def compare(combination, seed, coordinates):
        check(combination, seed, coordinates)

    compare()


@pytest.mark.parametrize("method", ["bilinear", "bicubic", "bspline3"])
def test_complex_pixels(rng, kernel, method):
    """They are sampled as pairs, by the kernel too."""
    image = rng.normal(size=(2, 5, 6, 2)) + 1j * rng.normal(size=(2, 5, 6, 2))
    grid = rng.uniform(-1.2, 1.2, size=(2, 3, 4, 2)).astype(np.float32)
    image = image.astype(np.complex64)
    program = jax.jit(lambda *a: sample(*a, method=method)).lower(image, grid)
    assert "stn_jax_cpu_" in program.as_text()
    found = program.compile()(image, grid)
    parts = [sample(part, grid, method=method) for part in (image.real, image.imag)]
    np.testing.assert_allclose(found, parts[0] + 1j * parts[1], atol=1e-5)


def test_one_large_image_by_many_threads(rng, kernel):
    """The gradient of an image that threads share is the sum in the order of points."""
    image = rng.normal(size=(1, 40, 30, 3)).astype(np.float32)
    grid = rng.uniform(-1.3, 1.3, size=(1, 200, 41, 2)).astype(np.float32)
    bar = rng.normal(size=(1, 200, 41, 3)).astype(np.float32)

    def image_bar(method, image, grid, bar):
        return jax.vjp(lambda x: sample(x, grid, method=method), image)[1](bar)[0]

    for method, channels in itertools.product(("bilinear", "bicubic"), (3, 9)):
        arrays = np.tile(image, channels // 3), grid, np.tile(bar, channels // 3)
        program = jax.jit(image_bar, static_argnums=0)
        alone = program(method, *arrays)
        many = program(method, *(np.repeat(x, 64, axis=0) for x in arrays))
        for one in many:  # one thread for each image
            np.testing.assert_array_equal(one, alone[0])

"""The compiled CPU kernel gives what plain JAX gives, and is called where it can be."""

import itertools
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references
from conftest import enable_x64
from jax import export
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from stn_jax import Kernel, bilinear_sample, sample
from stn_jax.sampling.cpu import compiler
from stn_jax.sampling.padding import RULES

CALL = "stn_jax_cpu_"
slow = partial(pytest.param, marks=pytest.mark.slow)


if "CXX" not in os.environ and not any(map(shutil.which, compiler.COMPILERS)):
    pytest.skip("no C++ compiler is here", allow_module_level=True)


def gradients(**options):
    """A program: the values and both gradients."""

    def both(image, grid, bar):
        out, pull = jax.vjp(lambda *a: sample(*a, **options), image, grid)
        return out, *pull(bar.astype(out.dtype))

    return both


def program_of(function, *arrays):
    """What plain JAX makes of it, in float64."""
    with pytest.MonkeyPatch.context() as patch, enable_x64():
        patch.setenv("STN_JAX_CPU", "off")
        arrays = [np.asarray(array, float) for array in arrays]
        return jax.jit(lambda *a: function(*a)).lower(*arrays).compile()


def plain(function, *arrays):
    """What it gives, rounded to float32."""
    return run(program_of(function, *arrays), *arrays)


def run(program, *arrays):
    with enable_x64():
        found = program(*(np.asarray(array, float) for array in arrays))
    return jax.tree.map(np.float32, found)


def compiled(function, *arrays):
    """What the kernel makes of it."""
    program = jax.jit(lambda *a: function(*a)).lower(*arrays)
    assert CALL in program.as_text()
    return program.compile()(*arrays)


def inputs(rng, size, channels, batch=(2,), points=(7, 13)):
    image = rng.normal(size=(*batch, *size, channels)).astype(np.float32)
    points = (1,) * (len(size) - 2) + points
    grid = rng.uniform(-2.2, 2.2, size=(*batch, *points, len(size)))
    bar = rng.normal(size=(*batch, *points, channels)).astype(np.float32)
    return image, grid.astype(np.float32), bar


@pytest.mark.parametrize("size", [(5, 6), slow((3, 4, 5))], ids=str)
@pytest.mark.parametrize(
    ("mode", "align_corners"),
    [
        *((mode, False) for mode in ("zeros", "reflection", "wrap")),
        ("reflection", True),
        *(slow(mode, False) for mode in ("constant", "border")),
        *(slow(mode, True) for mode in RULES if mode != "reflection"),
    ],
)
def test_values_and_gradients(rng, kernel, size, mode, align_corners):
    """With channels few and many."""
    both = gradients(padding_mode=mode, align_corners=align_corners)
    image, grid, bar = inputs(rng, size, 9)
    program = program_of(both, image, grid, bar)
    for channels in (1, 2, 3, 4, 9):
        few = (..., slice(channels))
        found = compiled(both, image[few], grid, bar[few])
        others = np.arange(9) >= channels
        out, image_bar, grid_bar = run(program, image, grid, np.where(others, 0, bar))
        chex.assert_trees_all_close(
            found, (out[few], image_bar[few], grid_bar), atol=1e-4
        )


def test_against_plain_loops(rng, kernel):
    image, grid, _ = inputs(rng, (5, 6), 3, batch=())
    found = compiled(bilinear_sample, image, grid)
    np.testing.assert_allclose(
        found, references.bilinear_sample(image, grid), atol=1e-5
    )


def test_volumes(rng, kernel):
    both = gradients(padding_mode=("zeros", "reflection", "wrap"))
    arrays = inputs(rng, (3, 4, 5), 3)
    chex.assert_trees_all_close(
        compiled(both, *arrays), plain(both, *arrays), atol=1e-4
    )


@pytest.mark.parametrize(
    "wanted", [1, *(pytest.param(w, marks=pytest.mark.slow) for w in (0, (0, 1)))]
)
def test_each_gradient_alone_and_under_maps(rng, kernel, wanted):
    image, grid, _ = inputs(rng, (4, 5), 3, batch=(3,))

    def loss(image, grid):
        return jnp.sin(bilinear_sample(image, grid)).sum()

    def mapped(image, grid):
        shared = jax.vmap(jax.grad(loss, wanted), (None, 0))
        return jax.vmap(jax.grad(loss, wanted))(image, grid), shared(image[0], grid)

    found = compiled(mapped, image, grid)
    expected = plain(mapped, image, grid)
    chex.assert_trees_all_close(found, expected, atol=1e-4, rtol=1e-4)


def test_higher_derivatives_and_control_flow(rng, kernel):
    image, grid, _ = inputs(rng, (4, 5), 2, batch=())

    def program(image, grid):
        def step(total, shift):
            return total + jax.checkpoint(loss)(image, grid + shift), None

        def loss(image, grid):
            return jnp.sin(bilinear_sample(image, grid)).sum()

        def summed(image, grid):
            total, _ = jax.lax.scan(step, jnp.zeros_like(grid[0, 0, 0]), grid[0, :3, 0])
            return total + loss(image, grid)

        first = jax.grad(summed, (0, 1))(image, grid)
        curved = jax.jvp(jax.grad(loss, 1), (image, grid), (image, grid))
        return first, curved

    found = compiled(program, image, grid)
    expected = plain(program, image, grid)
    chex.assert_trees_all_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("count", [1, (os.cpu_count() or 1) + 1])
def test_many_points_in_many_programs_at_once(rng, kernel, count):
    """More points than one thread takes, no whole blocks, several callers; fewer images
    than threads, and more.
    """
    image, grid, bar = inputs(rng, (9, 8), 1, batch=(count,), points=(57, 71))
    expected = plain(gradients(), image, grid, bar)
    program = jax.jit(gradients()).lower(image, grid, bar).compile()
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: program(image, grid, bar), range(20)):
            chex.assert_trees_all_close(found, expected, atol=1e-3)


def test_sums_are_the_same_each_time(rng, kernel):
    """Many points add to few pixels, in one order."""
    image, grid, bar = inputs(rng, (2, 2), 3, batch=(2,), points=(300, 7))
    program = jax.jit(gradients()).lower(image, grid, bar).compile()
    first = program(image, grid, bar)
    for _ in range(5):
        chex.assert_trees_all_equal(program(image, grid, bar), first)


@pytest.mark.parametrize(
    ("mode", "align_corners"),
    [
        *((mode, True) for mode in ("zeros", "reflection")),
        *(slow(mode, True) for mode in ("constant", "border", "wrap")),
        *(slow(mode, False) for mode in RULES),
    ],
)
def test_values_that_are_not_finite(kernel, mode, align_corners):
    """Infinite and NaN coordinates and pixels, on axes of one pixel too."""
    special = [np.nan, np.inf, -np.inf, 3e38, 1e9, 2.0**23, -1e7, -0.6, 0.25, 1.0]
    pairs = np.array([[*itertools.product(special, special)]], np.float32)
    bar = np.ones((1, len(special) ** 2, 1), np.float32)
    both = gradients(padding_mode=mode, align_corners=align_corners)
    for size in ((3, 4), (1, 4), (1, 1)):
        image = np.arange(1.0, 1 + np.prod(size), dtype=np.float32).reshape(*size, 1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("STN_JAX_CPU", "off")
            program = jax.jit(lambda *a: both(*a)).lower(image, pairs, bar).compile()
        ours = jax.jit(lambda *a: both(*a)).lower(image, pairs, bar).compile()
        for pixel in (2.0, np.nan, np.inf):
            image[0, 0] = pixel
            chex.assert_trees_all_close(
                ours(image, pairs, bar),
                program(image, pairs, bar),
                rtol=1e-5,
                atol=1e-4,
            )


@pytest.mark.parametrize(
    ("size", "channels"),
    [
        ((4, 2), 1),
        ((1, 4), 3),
        ((2, 1), 1),
        *(slow(size, channels) for size in [(4, 1), (1, 1)] for channels in (1, 2, 4)),
        slow((4, 2), 2),
        slow((4, 2), 3),
        slow((4, 2), 4),
    ],
    ids=str,
)
def test_few_channels_pixel_by_pixel(kernel, size, channels):
    """On pixels, between them and beyond, whichever of them is infinite: what lies
    outside adds nothing, not zero times a neighbour. With such sizes all coordinates
    are exact.
    """
    both = gradients()
    axes = [(2 * np.arange(-1.5, n + 0.5, 0.25) + 1) / n - 1 for n in size]
    grid = np.stack(np.meshgrid(*axes, indexing="ij")[::-1], axis=-1, dtype=np.float32)
    bar = np.linspace(-1, 2, grid.size // 2 * channels, dtype=np.float32)
    bar = bar.reshape(*grid.shape[:2], channels)
    image = np.arange(1.0, 1 + np.prod(size) * channels, dtype=np.float32)
    image = image.reshape(*size, channels)
    program = program_of(both, image, grid, bar)
    lowered = jax.jit(lambda *a: both(*a)).lower(image, grid, bar)
    assert CALL in lowered.as_text()
    ours = lowered.compile()
    for where in [None, *np.ndindex(size)]:
        shown = image.copy()
        if where is not None:
            shown[where][-1] = np.inf
        found = ours(shown, grid, bar)
        chex.assert_trees_all_close(found, run(program, shown, grid, bar), atol=1e-4)
        values = references.bilinear_sample(np.where(np.isinf(shown), 0, shown), grid)
        clean = np.isfinite(found[0])
        np.testing.assert_allclose(
            np.where(clean, found[0], 0), np.where(clean, values, 0), atol=1e-5
        )


@pytest.mark.parametrize("channels", [1, slow(2), 3, slow(4)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_far_point_changes_no_other(rng, kernel, dtype, channels):
    """Near and far points are sampled in different ways."""
    image, grid, bar = inputs(rng, (6, 7), channels, points=(30, 70))
    image, bar = jnp.asarray(image, dtype), jnp.asarray(bar, dtype)
    far = grid.copy()
    far[1, 20, 3] = np.nan, 3e38
    near, other = (compiled(gradients(), image, g, bar) for g in (grid, far))
    assert np.isnan(other[0][1, 20, 3]).all()
    others = np.ones(grid.shape[:3], bool)
    others[1, 20, 3] = False
    for a, b in ((near[0], other[0]), (near[2], other[2])):
        a, b = (np.asarray(x, float)[others] for x in (a, b))
        np.testing.assert_allclose(a, b, rtol=jnp.finfo(dtype).eps, atol=1e-5)
    np.testing.assert_allclose(other[2][1, 20, 3], 0)


@pytest.mark.parametrize("channels", [1, 2, 3, slow(4), 9, 32])
def test_bfloat16_is_rounded_once(rng, kernel, channels):
    image, grid, bar = inputs(rng, (4, 5), channels, points=(20, 20))
    image = jnp.asarray(image, jnp.bfloat16)
    bar = jnp.asarray(bar, jnp.bfloat16)
    found = compiled(gradients(), image, grid, bar)
    expected = plain(gradients(), image, grid, bar)
    assert [x.dtype for x in found] == [jnp.bfloat16, jnp.bfloat16, jnp.float32]
    for a, b in zip(found[:2], expected[:2], strict=True):
        np.testing.assert_allclose(np.asarray(a, float), b, rtol=2**-8, atol=1e-4)
    np.testing.assert_allclose(found[2], expected[2], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("shape", [(0, 4, 5, 3), (2, 4, 5, 3)])
def test_no_images_and_no_points(kernel, shape):
    image = jnp.ones(shape)
    grid = jnp.zeros((shape[0], 0, 3, 2))
    out, image_bar, grid_bar = jax.jit(gradients())(
        image, grid, jnp.zeros((shape[0], 0, 3, 3))
    )
    assert out.shape == (shape[0], 0, 3, 3)
    assert grid_bar.shape == grid.shape
    np.testing.assert_array_equal(image_bar, jnp.zeros(shape))


def text_of(*arrays, **options):
    return (jax.jit(lambda *a: bilinear_sample(*a, **options)).lower(*arrays)).as_text()


def test_where_it_is_not_called(rng, kernel, monkeypatch):
    image, grid, _ = inputs(rng, (4, 5), 3, batch=(2,))
    assert CALL in text_of(image, grid)
    tent = Kernel(1.0, lambda d: 1 - jnp.abs(d))
    assert (
        CALL not in jax.jit(partial(sample, method=tent)).lower(image, grid).as_text()
    )
    nearest = jax.jit(partial(sample, method="nearest"))
    assert CALL in nearest.lower(image, grid).as_text()
    assert CALL not in nearest.lower(image.astype(np.int32), grid).as_text()
    exported = export.export(jax.jit(bilinear_sample))(image, grid)
    assert CALL not in exported.mlir_module()
    monkeypatch.setenv("STN_JAX_CPU", "off")
    assert CALL not in text_of(image, grid)
    monkeypatch.setenv("STN_JAX_CPU", "yes")
    with pytest.raises(ValueError, match=r"STN_JAX_CPU must be .*'on'.* got 'yes'"):
        text_of(image, grid)


def test_several_devices(rng, kernel):
    """The compiler's own division is left to plain JAX; shard_map's is not."""
    mesh = Mesh(np.array(jax.devices()[:2]), ("data",))
    spec = PartitionSpec("data")
    arrays = inputs(rng, (4, 5), 3, batch=(4,))
    expected = plain(gradients(), *arrays)
    spread = [jax.device_put(a, NamedSharding(mesh, spec)) for a in arrays]

    specs = {"in_specs": (spec,) * 3, "out_specs": spec}
    divided = jax.shard_map(gradients(), mesh=mesh, **specs)
    for program, is_called in ((jax.jit(gradients()), False), (jax.jit(divided), True)):
        lowered = program.lower(*spread)
        assert (CALL in lowered.as_text()) == is_called
        chex.assert_trees_all_close(lowered.compile()(*spread), expected, atol=1e-4)

"""Gathers and dense products: the same values and gradients, kinks included."""

import re
from functools import partial

import chex
import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stn_jax import Kernel, linen, nnx, sample, warp
from stn_jax.sampling.kernels import METHODS
from stn_jax.sampling.padding import RULES
from stn_jax.transforms import Affine, Attention, Translation

SIZES = {2: (5, 6), 3: (3, 4, 5)}


def both_ways(function, *arrays):
    """Values and all gradients of a function, by gathers and by products."""

    def run(implementation):
        def loss(*arrays):
            out = function(*arrays, implementation=implementation)
            bar = jnp.cos(jnp.arange(out.size, dtype=out.dtype)).reshape(out.shape)
            return (out * bar).sum(), out

        every = range(len(arrays))
        return jax.jit(jax.value_and_grad(loss, every, has_aux=True))(*arrays)

    return run("gather"), run("dense")


SOME = [(2, "bilinear", mode) for mode in RULES] + [
    (3, "bilinear", "zeros"),
]
OTHERS = [
    (ndim, method, mode)
    for ndim, method in [*((2, method) for method in METHODS), (3, "bicubic")]
    for mode in RULES
    if (ndim, method, mode) not in SOME
] + [(2, Kernel(1.5, lambda d: jnp.exp(-d * d)), "constant")]
exhaustive = partial(pytest.param, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("ndim", "method", "mode"), SOME + [exhaustive(*case) for case in OTHERS]
)
def test_on_any_grid(rng, x64, ndim, method, mode):
    """The taps are the same, and so are the sums, to rounding."""
    image = rng.normal(size=(2, *SIZES[ndim], 3))
    grid = rng.uniform(-1.6, 1.6, size=(2, *(1,) * (ndim - 2), 4, 5, ndim))
    options = {"method": method, "padding_mode": mode}
    if mode == "constant":
        options["fill_value"] = jnp.array([1.0, -2.0, 0.5])
    gather, dense = both_ways(
        lambda image, grid, **way: sample(image, grid, **options, **way), image, grid
    )
    chex.assert_trees_all_close(gather, dense, rtol=1e-11, atol=1e-11)


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
    gather, dense = both_ways(
        lambda image, params, **way: warp(
            image, transform, params, size, **options, **way
        ),
        image,
        params,
    )
    chex.assert_trees_all_close(gather, dense, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_on_the_lattice(rng, method):
    """Where the kernel has kinks or jumps: the right-hand side, both ways."""
    image = rng.normal(size=(1, 4, 8, 2)).astype(np.float32)
    x, y = np.meshgrid(np.arange(-1.0, 9), np.arange(-1.0, 5))
    points = np.stack([x, y], axis=-1)[None].astype(np.float32)
    gather, dense = both_ways(
        lambda image, points, **way: sample(
            image, points, method=method, coordinates="pixel", **way
        ),
        image,
        points,
    )
    chex.assert_trees_all_close(gather, dense, rtol=1e-5, atol=1e-5)


def test_coordinates_that_are_not_finite(rng):
    image = rng.normal(size=(4, 5, 2)).astype(np.float32)
    special = np.float32([np.nan, np.inf, -np.inf, 1e9, 0.1])
    grid = np.stack(np.meshgrid(special, special), axis=-1)
    gather, dense = both_ways(
        lambda image, grid, **way: sample(image, grid, padding_mode="wrap", **way),
        image,
        grid,
    )
    chex.assert_trees_all_close(gather, dense, rtol=1e-5, atol=1e-5)
    params = np.float32([[1.0, np.nan, 0.0], [1.0, np.inf, 0.0]])
    images = np.stack([image, image])
    for way in ("gather", "dense"):
        out = warp(images, Attention(), params, implementation=way)
        assert np.isnan(out[0]).all()
        np.testing.assert_array_equal(out[1], 0)


def looked_up(program, size):
    """What a lowered program does to pixels of images of a size: gather, scatter."""
    shape = "x".join(map(str, size))
    operations = re.findall(
        r"stablehlo\.(gather|scatter)\W.*?: \(tensor<([^>]*)>", program.as_text(), re.S
    )
    return {name for name, operand in operations if f"x{shape}x" in operand}


def test_no_gather_is_left():
    image, grid = jnp.ones((2, 6, 7, 1)), jnp.zeros((2, 6, 7, 2))

    def program(implementation):
        def loss(image, grid):
            return sample(image, grid, implementation=implementation).sum()

        return jax.jit(jax.grad(loss, (0, 1))).lower(image, grid)

    assert looked_up(program("gather"), (6, 7)) == {"gather", "scatter"}
    assert looked_up(program("dense"), (6, 7)) == set()


def test_a_tpu_reads_small_images_by_products():
    """What is lowered for it: no gather, nor in the gradients; large images by one."""

    def operations(size, implementation=None):
        image, grid = jnp.ones((2, *size, 1)), jnp.zeros((2, 4, 4, 2))

        def loss(image, grid):
            return sample(image, grid, implementation=implementation).sum()

        gradients = jax.jit(jax.value_and_grad(loss, (0, 1))).trace(image, grid)
        return looked_up(gradients.lower(lowering_platforms=("tpu",)), size)

    assert operations((64, 64)) == set()
    assert operations((65, 64)) == {"gather", "scatter"}
    assert operations((64, 64), "gather") == {"gather", "scatter"}
    assert operations((65, 64), "dense") == set()


def test_warp_takes_the_choice(monkeypatch):
    """One product for each axis under an axis-aligned family, by default on a TPU."""

    def reads(transform, **way):
        def run(image):
            return warp(image, transform, transform.identity, **way)

        program = str(jax.make_jaxpr(run)(jnp.ones((9, 9, 1))))
        return re.findall(r"stn_jax_values\[.*?implementation=(\w+)", program, re.S)

    assert reads(Attention()) == ["None"]
    assert reads(Attention(), implementation="gather") == ["gather"]
    assert reads(Attention(), implementation="dense") == []
    assert reads(Affine(), implementation="dense") == ["dense"]
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert reads(Attention()) == []
    assert reads(Attention(), implementation="gather") == ["gather"]
    assert reads(Affine()) == ["None"]


def test_the_modules_pass_it_on():
    images = jnp.ones((2, 9, 9, 1))
    ours = nnx.SpatialTransformer(
        lambda images: images.mean((1, 2)),
        features=1,
        implementation="dense",
        rngs=flax.nnx.Rngs(0),
    )
    assert "implementation=dense" in str(jax.make_jaxpr(lambda x: ours(x))(images))
    theirs = linen.SpatialTransformer(
        linen.ConvLocalization(channels=(2,), kernel_size=3), implementation="dense"
    )
    program = jax.make_jaxpr(lambda x: theirs.init_with_output(jax.random.key(0), x))
    assert "implementation=dense" in str(program(images))


def test_what_does_not_go_together():
    image, grid = jnp.ones((4, 5, 1)), jnp.zeros((2, 2, 2))
    with pytest.raises(ValueError, match="implementation must be one of 'gather'"):
        sample(image, grid, implementation="sparse")
    with pytest.raises(ValueError, match="implementation must be one of 'gather'"):
        warp(image, Affine(), Affine().identity, implementation="sparse")
    with pytest.raises(TypeError, match="int32"):
        sample(image.astype(int), grid, method="nearest", implementation="dense")
    with pytest.raises(ValueError, match=r'antialias=True is dense; got .*"gather"'):
        warp(
            image,
            Attention(),
            Attention().identity,
            antialias=True,
            outside="fill",
            implementation="gather",
        )

"""Which implementation runs, decided where a program is lowered."""

import re

import flax
import jax
import jax.numpy as jnp
import pytest

from stn_jax import linen, nnx, sample, warp
from stn_jax.transforms import Affine, Attention


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

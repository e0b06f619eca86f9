"""Which implementation runs, decided where a program is lowered."""

import math
import re
from functools import partial

import chex
import flax
import jax
import jax.numpy as jnp
import pytest
from conftest import ROOT
from jax import export

from stn_jax import linen, nnx, sample, warp
from stn_jax.transforms import Affine, Attention, Translation


def looked_up(text, size):
    """What a program does to the pixels of images of a size: gather, scatter."""
    shape = "x".join(map(str, size))
    operations = re.findall(
        r"stablehlo\.(gather|scatter)\W.*?: \(tensor<([^>]*)>", text, re.S
    )
    return {name for name, operand in operations if f"x{shape}x" in operand}


def value_and_gradients(function):
    return jax.jit(jax.value_and_grad(lambda *a: function(*a).sum(), (0, 1)))


def lowered_for(platform, function, *arrays):
    """The text of a program's values and both gradients, lowered for a platform."""
    traced = value_and_gradients(function).trace(*arrays)
    return traced.lower(lowering_platforms=(platform,)).as_text()


def exported_for(platforms, function, *arrays):
    return export.export(value_and_gradients(function), platforms=platforms)(*arrays)


def test_nothing_asks_for_the_current_platform():
    """The lowering rules decide, so that exports get their own platform's programs."""
    for path in (ROOT / "stn_jax").rglob("*.py"):
        source = path.read_text()
        for word in ("default_backend", "jax.devices", "platform_dependent"):
            assert word not in source, f"{path} mentions {word}"


def test_dense_products_replace_gathers():
    image, grid = jnp.ones((2, 6, 7, 1)), jnp.zeros((2, 6, 7, 2))

    def operations(implementation):
        def run(*arrays):
            return sample(*arrays, implementation=implementation)

        text = value_and_gradients(run).lower(image, grid).as_text()
        return looked_up(text, (6, 7))

    assert operations("gather") == {"gather", "scatter"}
    assert operations("dense") == set()


def on_tpu(size, implementation=None, method="bilinear"):
    """What a TPU's program looks up in images of a size."""
    image, grid = jnp.ones((2, *size, 1)), jnp.zeros((2, 4, 4, 2))
    run = partial(sample, implementation=implementation, method=method)
    return looked_up(lowered_for("tpu", run, image, grid), size)


def test_a_tpu_multiplies_small_images_and_gathers_from_large_ones():
    assert on_tpu((64, 64)) == set()
    assert on_tpu((65, 64)) == {"gather", "scatter"}
    assert on_tpu((64, 64), "gather") == {"gather", "scatter"}
    assert on_tpu((65, 64), "dense") == set()
    assert on_tpu((64, 64), method="nearest") == {"gather", "scatter"}


@pytest.mark.parametrize(
    "platform", ["cpu", pytest.param("cuda", marks=pytest.mark.slow)]
)
def test_other_platforms_gather(platform):
    image, grid = jnp.ones((2, 6, 7, 1)), jnp.zeros((2, 4, 4, 2))
    text = lowered_for(platform, sample, image, grid)
    assert looked_up(text, (6, 7)) == {"gather", "scatter"}
    text = lowered_for(platform, warp_by(Attention()), image, jnp.ones((2, 3)))
    assert looked_up(text, (6, 7)) == {"gather", "scatter"}


def warp_by(family, **options):
    return lambda image, params: warp(image, family, params, (4, 4), **options)


@pytest.mark.parametrize("family", [Attention(), Translation()], ids=str)
def test_a_tpu_multiplies_along_each_axis_under_axis_aligned_families(family):
    """Images of any size, since the products grow with its sides alone."""
    image = jnp.ones((2, 65, 64, 1))
    params = jnp.broadcast_to(family.identity, (2, family.num_params))
    text = lowered_for("tpu", warp_by(family), image, params)
    assert looked_up(text, (65, 64)) == set()
    sizes = [math.prod(map(int, s.split("x"))) for s in TENSOR.findall(text)]
    assert max(sizes) <= image.size, "a matrix of all pixels and points"
    gathered = lowered_for(
        "tpu", warp_by(family, implementation="gather"), image, params
    )
    assert looked_up(gathered, (65, 64)) == {"gather", "scatter"}
    affine = lowered_for("tpu", warp_by(Affine()), image, jnp.ones((2, 6)))
    assert looked_up(affine, (65, 64)) == {"gather", "scatter"}


TENSOR = re.compile(r"tensor<((?:\d+x)+\d+)x[a-z]")


@pytest.mark.parametrize("family", [None, Attention()], ids=str)
def test_an_export_has_the_program_of_its_platform(family):
    """Made on a CPU, in values and both gradients."""
    image, where = jnp.ones((2, 6, 7, 1)), jnp.zeros((2, 4, 4, 2))
    run = sample
    if family:
        run, where = warp_by(family), jnp.ones((2, family.num_params))
    programs = {
        platform: exported_for((platform,), run, image, where).mlir_module()
        for platform in ("cpu", "tpu")
    }
    assert looked_up(programs["cpu"], (6, 7)) == {"gather", "scatter"}
    assert looked_up(programs["tpu"], (6, 7)) == set()
    assert "dot_general" in programs["tpu"]


@pytest.mark.parametrize("family", [None, Attention()], ids=str)
def test_an_export_for_several_platforms_runs_on_a_cpu(rng, family):
    image = jnp.asarray(rng.normal(size=(2, 6, 7, 1)), jnp.float32)
    where = jnp.asarray(rng.uniform(-1.2, 1.2, size=(2, 4, 4, 2)), jnp.float32)
    run = sample
    if family:
        run, where = warp_by(family), jnp.asarray([[0.6, 0.1, 0.2], [1.3, 0, 0]])
    exported = exported_for(("cpu", "tpu", "cuda"), run, image, where)
    loaded = export.deserialize(exported.serialize())
    assert loaded.platforms == ("cpu", "tpu", "cuda")
    found = loaded.call(image, where)
    expected = value_and_gradients(run)(image, where)
    chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-4)


def test_an_axis_aligned_family_under_an_explicit_implementation():
    """Gathers at the grid's points, or one product for each axis."""

    def programs(transform, **options):
        run = warp_by(transform, **options)
        arrays = jnp.ones((9, 9, 1)), transform.identity
        return str(jax.make_jaxpr(run)(*arrays))

    assert "stn_jax_sample_on_grid_values" in programs(Attention())
    assert "stn_jax_sample_values" in programs(Attention(), implementation="gather")
    assert "stn_jax_" not in programs(Attention(), implementation="dense")
    assert "implementation='dense'" in programs(Affine(), implementation="dense")


def test_the_modules_pass_the_implementation_on():
    images = jnp.ones((2, 9, 9, 1))
    ours = nnx.SpatialTransformer(
        lambda images: images.mean((1, 2)),
        features=1,
        implementation="dense",
        rngs=flax.nnx.Rngs(0),
    )
    assert "implementation='dense'" in str(jax.make_jaxpr(lambda x: ours(x))(images))
    theirs = linen.SpatialTransformer(
        linen.ConvLocalization(channels=(2,), kernel_size=3), implementation="dense"
    )
    program = jax.make_jaxpr(lambda x: theirs.init_with_output(jax.random.key(0), x))
    assert "implementation='dense'" in str(program(images))


def test_combinations_that_are_refused():
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

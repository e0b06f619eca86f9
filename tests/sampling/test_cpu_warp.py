"""The compiled CPU kernel warps without a grid: what grid and sample give."""

import os
import shutil
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import enable_x64
from jax import export
from jax.sharding import Mesh, PartitionSpec

from stn_jax import sample, warp
from stn_jax.sampling.cpu import compiler
from stn_jax.transforms import (
    Affine,
    Attention,
    Projective,
    Rigid,
    ThinPlateSpline,
    Translation,
)

if "CXX" not in os.environ and not any(map(shutil.which, compiler.COMPILERS)):
    pytest.skip("no C++ compiler is here", allow_module_level=True)

CALLS = ("stn_jax_cpu_warp_values", "stn_jax_cpu_warp_cotangents")
FAMILIES = [
    (Affine(), {}),
    (Attention(), {"method": "bicubic"}),
    (Rigid(), {"method": "nearest"}),
    (Projective(), {"padding_mode": "border"}),
    (ThinPlateSpline((3, 3)), {"align_corners": True}),
    (Affine(ndim=3), {"padding_mode": "reflection"}),
    (Projective(ndim=3), {"method": "catmull_rom"}),
    (Translation(ndim=3), {"method": "bspline3", "padding_mode": "wrap"}),
    (ThinPlateSpline((2, 2, 2)), {}),
]


def inputs(rng, family, channels=3, batch=(2,), size=(5, 6), out=(7, 13)):
    """Images, parameters near the identity, and a cotangent of the output."""
    size = size if family.ndim == 2 else (4, *size)
    out = out if family.ndim == 2 else (3, *out)
    image = rng.normal(size=(*batch, *size, channels))
    params = np.asarray(family.identity) + 0.3 * rng.normal(
        size=(*batch, family.num_params)
    )
    bar = rng.normal(size=(*batch, *out, channels))
    return [x.astype(np.float32) for x in (image, params, bar)], out


def gradients(function):
    """The values and the gradients of image and parameters."""

    def both(image, params, bar):
        out, pull = jax.vjp(function, image, params)
        return out, *pull(bar.astype(out.dtype))

    return both


def by_grid(image, params, *, family, out, **options):
    """What a warp is."""
    corners = options.get("align_corners", False)
    return sample(image, family.grid(params, out, align_corners=corners), **options)


def plain(function, *arrays):
    """What plain JAX makes of it, in float64."""
    with pytest.MonkeyPatch.context() as patch, enable_x64():
        patch.setenv("STN_JAX_CPU", "off")
        arrays = [np.asarray(array, float) for array in arrays]
        found = jax.jit(lambda *a: function(*a))(*arrays)
        return jax.tree.map(np.float32, found)


def compiled(function, *arrays):
    """What the kernel makes of it, without a grid."""
    program = jax.jit(lambda *a: function(*a)).lower(*arrays)
    text = program.as_text()
    assert all(call in text for call in CALLS)
    assert "stn_jax_cpu_values" not in text
    return program.compile()(*arrays)


@pytest.mark.parametrize("channels", [1, 9])
@pytest.mark.parametrize(("family", "options"), FAMILIES, ids=str)
def test_values_and_gradients(rng, kernel, family, options, channels):
    arrays, out = inputs(rng, family, channels)
    ours = gradients(lambda x, p: warp(x, family, p, out, **options))
    theirs = gradients(partial(by_grid, family=family, out=out, **options))
    found, expected = compiled(ours, *arrays), plain(theirs, *arrays)
    chex.assert_trees_all_close(found, expected, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_dtypes(rng, kernel, dtype):
    family = Affine()
    (image, params, bar), out = inputs(rng, family)
    ours = gradients(lambda x, p: warp(x, family, p, out))
    theirs = gradients(partial(by_grid, family=family, out=out))
    with enable_x64():
        image, bar = jnp.asarray(image, dtype), jnp.asarray(bar, dtype)
        params = jnp.asarray(params, "float64" if dtype == "float64" else "float32")
        found = compiled(ours, image, params, bar)
        assert [x.dtype for x in found] == [image.dtype, image.dtype, params.dtype]
    expected = plain(theirs, image, params, bar)
    tolerance = {"bfloat16": 0.1, "float16": 1e-2, "float64": 1e-4}[dtype]
    found = jax.tree.map(lambda x: np.asarray(x, np.float32), found)
    chex.assert_trees_all_close(found, expected, atol=tolerance, rtol=tolerance)


def test_several_grids_of_one_image(rng, kernel):
    """As parallel transformers have them; the images are not copied."""
    family = Affine()
    (image, _, _), out = inputs(rng, family)
    _, params, bar = inputs(rng, family, batch=(2, 3))[0]

    def windows(image, params):
        return warp(image[:, None], family, params, out)

    def one_by_one(image, params):
        return by_grid(image[:, None], params, family=family, out=out)

    found = compiled(gradients(windows), image, params, bar)
    expected = plain(gradients(one_by_one), image, params, bar)
    chex.assert_trees_all_close(found, expected, atol=2e-3)


def test_no_grid_is_stored(rng, kernel):
    """The program's temporary memory does not grow with the output."""
    family = Affine()
    arrays, out = inputs(rng, family, 1, batch=(4,), out=(200, 300))
    program = jax.jit(gradients(lambda x, p: warp(x, family, p, out)))
    memory = program.lower(*arrays).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 4 * 200 * 300  # a grid has 8 times that


def test_the_same_bits_each_time_and_alone(rng, kernel):
    """The sums over the points have one order, for many images and for one."""
    family = Affine()
    (image, params, bar), out = inputs(rng, family, 3, batch=(1,), out=(60, 70))
    program = jax.jit(gradients(lambda x, p: warp(x, family, p, out)))
    alone = program(image, params, bar)
    chex.assert_trees_all_equal(program(image, params, bar), alone)
    many = program(*(np.repeat(x, 64, axis=0) for x in (image, params, bar)))
    for ours, one in zip(many, alone, strict=True):
        np.testing.assert_array_equal(ours, np.repeat(one, 64, axis=0))


def test_points_at_infinity_and_nan(rng, kernel):
    """Where w is zero the padding shows, without a gradient; NaN stays NaN."""
    family = Projective()
    params = np.array([[1, 0, 0, 0, 1, 0, 2, 0], [np.nan, 0, 0, 0, 1, 0, 0, 0]])
    image, bar = rng.normal(size=(2, 4, 4, 1)), np.ones((2, 4, 4, 1))
    arrays = [x.astype(np.float32) for x in (image, params, bar)]
    ours = gradients(lambda x, p: warp(x, family, p, (4, 4)))
    theirs = gradients(partial(by_grid, family=family, out=(4, 4)))
    found = compiled(ours, *arrays)
    expected = plain(theirs, *arrays)
    chex.assert_trees_all_close(found[0], expected[0], atol=1e-4)
    chex.assert_trees_all_close(found[1], expected[1], atol=1e-4)
    chex.assert_trees_all_close(found[2][0], expected[2][0], atol=1e-3, rtol=1e-3)


def test_transformations_of_jax(rng, kernel):
    """vmap, second derivatives, a scan and a checkpoint."""
    family = Affine()
    (image, params, _), out = inputs(rng, family, 2, batch=(3,))

    def loss(image, params, function):
        return jnp.sin(function(image, params)).sum()

    def program(function):
        def every(image, params):
            one = partial(loss, function=function)
            mapped = jax.vmap(jax.grad(one, (0, 1)))(image, params)
            shared = jax.vmap(jax.grad(one, 1), (None, 0))(image[0], params)
            curved = jax.jvp(
                jax.grad(jax.checkpoint(one), 1), (image, params), (image, params)
            )
            step = lambda total, p: (total + one(image[0], p), None)  # noqa: E731
            total, _ = jax.lax.scan(step, jnp.zeros((), params.dtype), params)
            return mapped, shared, curved, total

        return every

    ours = jax.jit(program(lambda x, p: warp(x, family, p, out)))(image, params)
    theirs = program(partial(by_grid, family=family, out=out))
    chex.assert_trees_all_close(
        ours, plain(theirs, image, params), atol=5e-3, rtol=5e-3
    )


def test_shard_map_and_export(rng, kernel, monkeypatch):
    family = Affine()
    (image, params, bar), out = inputs(rng, family, batch=(4,))
    both = gradients(lambda x, p: warp(x, family, p, out))
    expected = plain(both, image, params, bar)
    spec = PartitionSpec("data")
    mesh = Mesh(np.array(jax.devices()[:2]), ("data",))
    divided = jax.shard_map(both, mesh=mesh, in_specs=(spec,) * 3, out_specs=spec)
    found = compiled(divided, image, params, bar)
    chex.assert_trees_all_close(found, expected, atol=1e-3, rtol=1e-3)
    exported = export.export(jax.jit(both))(image, params, bar)
    assert "stn_jax_cpu_" not in exported.mlir_module()
    chex.assert_trees_all_close(
        exported.call(image, params, bar), expected, atol=1e-3, rtol=1e-3
    )
    monkeypatch.setenv("STN_JAX_CPU", "off")
    assert (
        "stn_jax_cpu_"
        not in jax.jit(lambda *a: both(*a)).lower(image, params, bar).as_text()
    )


def test_empty_batches_and_outputs_of_one_pixel(kernel):
    family = Affine()
    both = gradients(lambda x, p: warp(x, family, p, (1, 1)))
    for count in (0, 2):
        image, params = jnp.ones((count, 4, 5, 2)), jnp.zeros((count, 6))
        out, image_bar, params_bar = jax.jit(both)(
            image, params, jnp.ones((count, 1, 1, 2))
        )
        assert out.shape == (count, 1, 1, 2)
        np.testing.assert_allclose(out, 1, atol=1e-6)
        np.testing.assert_allclose(image_bar.sum(), 2 * count, atol=1e-5)
        assert params_bar.shape == (count, 6)

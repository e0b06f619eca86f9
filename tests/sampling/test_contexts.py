"""Derivatives under jit, vmap, checkpoint, scan and shard_map."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from stn_jax import sample, warp
from stn_jax.transforms import Attention, Rigid

METHODS = ["bilinear", pytest.param("bspline2", marks=pytest.mark.slow)]

pytestmark = pytest.mark.usefixtures("strict")


def mesh_of_two():
    auto = jax.sharding.AxisType.Auto
    return jax.make_mesh((2,), ("data",), axis_types=(auto,))


def loss(image, grid, method):
    return (sample(image, grid, method=method, padding_mode="reflection") ** 2).sum()


@pytest.fixture
def inputs(rng):
    image = jnp.asarray(rng.normal(size=(4, 5, 6, 2)), jnp.float32)
    return image, jnp.asarray(rng.uniform(-1.2, 1.2, size=(4, 3, 3, 2)), jnp.float32)


@pytest.mark.parametrize("method", METHODS)
def test_contexts_agree(rng, inputs, method):
    """The same gradients, whichever way the program is put together."""
    image, grid = inputs
    one = partial(loss, method=method)

    def scanned(image, grid):
        def body(total, pair):
            return total + one(*pair), None

        return jax.lax.scan(body, jnp.float32(0), (image, grid))[0]

    def mapped(image, grid):
        return jax.vmap(jax.checkpoint(one))(image, grid).sum()

    def looped(image, grid):
        return sum(one(image[i], grid[i]) for i in range(len(image)))

    @jax.jit
    def gradients(image, grid):
        functions = (one, scanned, mapped, looped)
        return [jax.grad(f, (0, 1))(image, grid) for f in functions]

    expected, *others = gradients(image, grid)
    for other in others:
        chex.assert_trees_all_close(other, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_replicated_image_and_sharded_grids(inputs, method):
    """Each device samples its share of the grids; the image's gradient is their sum."""
    image, grid = inputs[0][0], inputs[1]
    mesh = mesh_of_two()

    @partial(jax.shard_map, mesh=mesh, in_specs=(P(), P("data")), out_specs=P())
    def sharded(image, grid):
        return jax.lax.psum(loss(image, grid, method), "data")

    gradient = jax.jit(jax.grad(sharded, (0, 1)))(image, grid)
    expected = jax.jit(jax.grad(partial(loss, method=method), (0, 1)))(image, grid)
    chex.assert_trees_all_close(gradient, expected, rtol=1e-4, atol=1e-5)
    assert len(gradient[1].sharding.device_set) == 2


def test_sharded_images_stay_where_they_are(inputs):
    mesh = mesh_of_two()
    sharding = NamedSharding(mesh, P("data"))
    images = jax.device_put(inputs[0], sharding)
    params = jnp.broadcast_to(Rigid().identity.at[0].set(0.3), (4, 3))
    params = jax.device_put(params, sharding)
    out = jax.jit(lambda images, params: warp(images, Rigid(), params))(images, params)
    assert out.sharding.is_equivalent_to(sharding, out.ndim)
    expected = warp(inputs[0], Rigid(), np.asarray(params))
    chex.assert_trees_all_close(out, expected, atol=1e-6)


def test_arrays_committed_to_a_device_stay_there(inputs):
    device = jax.devices()[1]
    image, grid = jax.device_put(inputs, device)
    out = sample(image, grid, method="bspline3", fill_value=0.5, padding_mode="wrap")
    assert out.devices() == {device}
    assert warp(image, Rigid(), Rigid().identity).devices() == {device}


def test_arrays_of_any_memory_layout(inputs):
    """NumPy views that are not contiguous, backwards, read-only."""
    image, grid = (np.asarray(x) for x in inputs)
    strided = np.empty((4, 10, 12, 4), np.float32)[:, ::2, ::-2, ::2]
    strided[...] = image
    backwards = np.asfortranarray(grid)
    backwards.flags.writeable = False
    assert not strided.flags.c_contiguous
    assert not backwards.flags.c_contiguous
    expected = sample(image, grid)
    chex.assert_trees_all_equal(sample(strided, backwards), expected)


# axis-aligned families: the default against explicit implementations


def attended(image, params, implementation=None):
    out = warp(image, Attention(), params, (4, 3), implementation=implementation)
    return jnp.sin(out)


def attended_derivatives(image, params, implementation):
    """Values and derivatives of one image under several parameters, in many ways."""
    one = partial(attended, implementation=implementation)
    dots = jnp.cos(3 * image), jnp.cos(3 * params)

    def loss(image, params):
        return one(image, params).sum()

    def scanned(image, params):
        def body(total, row):
            return total + jax.checkpoint(loss)(image, row), None

        return jax.lax.scan(body, jnp.zeros_like(image[0, 0, 0]), params)[0]

    both = jax.grad(loss, (0, 1))
    return {
        "values": one(image, params),
        "vmap": jax.vmap(one, (None, 0))(image, params),
        "jvp": jax.jvp(one, (image, params), dots),
        "vjp": both(image, params),
        "vmap of vjp": jax.vmap(both, (None, 0))(image, params),
        "second": jax.jvp(both, (image, params), dots),
        "scan and checkpoint": jax.grad(scanned, (0, 1))(image, params),
    }


ATTENDED = jax.jit(attended_derivatives, static_argnums=2)


@pytest.fixture
def attention(rng):
    image = jnp.asarray(rng.normal(size=(5, 6, 2)))
    params = rng.uniform(-0.4, 0.4, size=(4, 3)) + np.array([1.0, 0, 0])
    return image, jnp.asarray(params)


@pytest.mark.parametrize("implementation", ["gather", "dense"])
def test_axis_aligned_families_in_all_contexts(x64, attention, implementation):
    found, expected = (ATTENDED(*attention, way) for way in (None, implementation))
    chex.assert_trees_all_close(found, expected, rtol=1e-10, atol=1e-10)


def test_axis_aligned_families_under_shard_map(attention):
    image, params = (x.astype(jnp.float32) for x in attention)

    @partial(
        jax.shard_map, mesh=mesh_of_two(), in_specs=(P(), P("data")), out_specs=P()
    )
    def sharded(image, params):
        return jax.lax.psum(attended(image, params).sum(), "data")

    def expected(image, params):
        return attended(image, params, "gather").sum()

    found = jax.jit(jax.value_and_grad(sharded, (0, 1)))(image, params)
    gathered = jax.jit(jax.value_and_grad(expected, (0, 1)))(image, params)
    chex.assert_trees_all_close(found, gathered, rtol=1e-4, atol=1e-5)


def test_one_image_under_many_parameters_is_not_copied():
    image = jax.ShapeDtypeStruct((256, 256, 3), jnp.float32)
    params = jax.ShapeDtypeStruct((64, 3), jnp.float32)

    def values(image, params):
        return warp(image, Attention(), params, (8, 8))

    def loss(image, params):
        return values(image, params).sum()

    mapped = jax.vmap(values, (None, 0))
    for function in (values, mapped, jax.grad(loss, 1), jax.grad(loss, (0, 1))):
        memory = jax.jit(function).lower(image, params).compile().memory_analysis()
        assert memory.temp_size_in_bytes < 2 * 256 * 256 * 3 * 4, "not even two copies"

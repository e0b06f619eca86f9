"""The convolution with fast gradients on a CPU, against XLA's."""

from functools import partial

import chex
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from train.convolution import by_patches, convolve

SHAPES = (32, 28, 28, 8), (5, 5, 8, 16)
NUMBERS = {2: ("NHWC", "HWIO", "NHWC"), 3: ("NDHWC", "DHWIO", "NDHWC")}


@pytest.mark.parametrize("padding", ["SAME", "VALID", ((1, 2), (0, 3))])
@pytest.mark.parametrize("strides", [(1, 1), (2, 3)])
def test_values_and_gradients(rng, x64, strides, padding):
    images = jnp.asarray(rng.normal(size=(2, 7, 10, 3)))
    kernel = jnp.asarray(rng.normal(size=(3, 4, 3, 5)))
    expected = partial(lax.conv_general_dilated, dimension_numbers=NUMBERS[2])
    values = [
        jax.value_and_grad(
            lambda *a, f=f: jnp.sin(f(*a, strides, padding)).sum(), (0, 1)
        )(images, kernel)
        for f in (by_patches, expected)
    ]
    chex.assert_trees_all_close(*values, rtol=1e-12, atol=1e-12)


def test_volumes(rng):
    volumes = rng.normal(size=(2, 5, 6, 7, 2)).astype(np.float32)
    kernel = rng.normal(size=(3, 2, 3, 2, 4)).astype(np.float32)
    out = by_patches(volumes, kernel, (1, 1, 2), "SAME")
    expected = lax.conv_general_dilated(
        volumes, kernel, (1, 1, 2), "SAME", dimension_numbers=NUMBERS[3]
    )
    np.testing.assert_allclose(out, expected, atol=1e-4)


@pytest.mark.parametrize(
    "options", [{"feature_group_count": 2}, {"rhs_dilation": (2, 2)}]
)
def test_groups_and_dilations_are_left_to_xla(rng, options):
    images = rng.normal(size=(2, 9, 9, 4)).astype(np.float32)
    inputs = 4 // options.get("feature_group_count", 1)
    kernel = rng.normal(size=(3, 3, inputs, 6)).astype(np.float32)
    options = {"dimension_numbers": NUMBERS[2], **options}
    out = convolve(images, kernel, (1, 1), "VALID", **options)
    expected = lax.conv_general_dilated(images, kernel, (1, 1), "VALID", **options)
    np.testing.assert_array_equal(out, expected)


def loss(images, kernel, convolution=convolve):
    options = {"dimension_numbers": NUMBERS[2]}
    return jnp.sin(convolution(images, kernel, (1, 2), "SAME", **options)).sum()


def test_the_gradients_of_both_paths(rng, x64):
    images = jnp.asarray(rng.normal(size=(2, 7, 10, 3)))
    kernel = jnp.asarray(rng.normal(size=(3, 4, 3, 5)))
    ours = jax.value_and_grad(loss, (0, 1))(images, kernel)
    by_xla = partial(loss, convolution=lax.conv_general_dilated)
    expected = jax.value_and_grad(by_xla, (0, 1))(images, kernel)
    chex.assert_trees_all_close(ours, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("platform", ["cpu", "tpu", "cuda"])
def test_an_export_has_the_path_of_its_platform(platform):
    shapes = [jax.ShapeDtypeStruct(shape, np.float32) for shape in SHAPES]
    gradients = jax.jit(jax.grad(loss, (0, 1)))
    program = jax.export.export(gradients, platforms=[platform])(*shapes).mlir_module()
    assert ("stablehlo.convolution" in program) == (platform != "cpu")
    assert ("stablehlo.dot_general" in program) == (platform == "cpu")


def test_the_gradients_need_no_memory_for_a_choice():
    """The residuals are those of the CPU's path alone."""
    shapes = [jax.ShapeDtypeStruct(shape, np.float32) for shape in SHAPES]

    def temporary_bytes(convolution):
        gradients = jax.jit(jax.grad(partial(loss, convolution=convolution), (0, 1)))
        compiled = gradients.lower(*shapes).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    def patches_alone(images, kernel, strides, padding, dimension_numbers):
        return by_patches(images, kernel, strides, padding)

    assert temporary_bytes(convolve) <= 1.01 * temporary_bytes(patches_alone)

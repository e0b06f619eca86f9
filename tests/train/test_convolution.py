"""The convolution with fast gradients on a CPU, against XLA's."""

from functools import partial

import chex
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from train import convolution
from train.blocks import convolve_few, in_blocks
from train.convolution import by_patches, convolve

SHAPES = (32, 28, 28, 8), (5, 5, 8, 16)
NUMBERS = {2: ("NHWC", "HWIO", "NHWC"), 3: ("NDHWC", "DHWIO", "NDHWC")}


@pytest.mark.parametrize("padding", ["SAME", "VALID", ((1, 2), (0, 3))])
@pytest.mark.parametrize("strides", [(1, 1), (2, 3)])
@pytest.mark.parametrize(("channels", "is_by_rows"), [(3, False), (1, True), (3, True)])
def test_values_and_gradients(
    rng, x64, monkeypatch, channels, is_by_rows, strides, padding
):
    if is_by_rows:  # as it is for large images
        monkeypatch.setattr(convolution, "LARGE", 0)
    images = jnp.asarray(rng.normal(size=(2, 7, 10, channels)))
    kernel = jnp.asarray(rng.normal(size=(3, 4, channels, 5)))
    assert convolution.is_by_rows(images.shape, 1) == is_by_rows
    expected = partial(lax.conv_general_dilated, dimension_numbers=NUMBERS[2])
    values = [
        jax.jit(
            jax.value_and_grad(
                lambda *a, f=f: jnp.sin(f(*a, strides, padding)).sum(), (0, 1)
            )
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


# few channels, in blocks


def gradients(f, images, kernel):
    return jax.value_and_grad(lambda *a: jnp.sin(f(*a)).sum(), (0, 1))(images, kernel)


@pytest.mark.parametrize("side", [1, 3, 5, 7])
def test_blocks(rng, x64, side):
    """Odd reaches and even ones, and images smaller than the kernel."""
    images = jnp.asarray(rng.normal(size=(2, 6, 10, 3)))
    kernel = jnp.asarray(rng.normal(size=(side, side, 3, 5)))
    expected = partial(
        lax.conv_general_dilated,
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=NUMBERS[2],
    )
    chex.assert_trees_all_close(
        gradients(in_blocks, images, kernel),
        gradients(expected, images, kernel),
        rtol=1e-12,
        atol=1e-12,
    )


@pytest.mark.parametrize(
    ("size", "kernel", "options"),
    [
        ((6, 7), (3, 3, 4, 8), {}),
        ((6, 8), (3, 3, 4, 9), {}),
        ((6, 8), (4, 4, 4, 8), {}),
        ((6, 8), (3, 5, 4, 8), {}),
        ((6, 8), (3, 3, 4, 8), {"window_strides": (1, 2)}),
        ((6, 8), (3, 3, 4, 8), {"padding": "VALID"}),
        ((6, 8), (3, 3, 4, 8), {"rhs_dilation": (2, 2)}),
        ((6, 8), (3, 3, 2, 8), {"feature_group_count": 2}),
    ],
)
def test_what_does_not_fit_into_blocks_is_left_to_xla(rng, size, kernel, options):
    images = rng.normal(size=(2, *size, 4)).astype(np.float32)
    kernel = rng.normal(size=kernel).astype(np.float32)
    options = {
        "window_strides": (1, 1),
        "padding": "SAME",
        "dimension_numbers": NUMBERS[2],
        **options,
    }
    out = convolve_few(images, kernel, **options)
    expected = lax.conv_general_dilated(images, kernel, **options)
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("platform", ["cpu", "cuda"])
def test_blocks_are_for_the_cpu(platform):
    shapes = [
        jax.ShapeDtypeStruct(shape, np.float32)
        for shape in ((2, 12, 16, 3), (5, 5, 3, 4))
    ]
    f = partial(
        convolve_few,
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=NUMBERS[2],
    )
    program = jax.export.export(jax.jit(f), platforms=[platform])(*shapes)
    assert ("2x6x8x12xf32" in program.mlir_module()) == (platform == "cpu")

"""The default precision of matrix products must not matter: a coordinate needs float32.

A GPU's default, TF32, keeps 11 bits, and a TPU's, bfloat16, 8 bits.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references

from stn_jax import fit_affine, fit_tps, sample, tps_grid, warp
from stn_jax.transforms import Attention, ThinPlateSpline

PRECISIONS = ("bfloat16", "tensorfloat32", "highest")
PLATFORMS = ("cuda", "tpu")  # on a CPU there is one precision
IMAGE = jax.ShapeDtypeStruct((2, 9, 8, 3), jnp.float32)
GRID = jax.ShapeDtypeStruct((2, 4, 5, 2), jnp.float32)
POINTS = jax.ShapeDtypeStruct((2, 16, 2), jnp.float32)


def warped(family):
    params = jax.ShapeDtypeStruct((2, family.num_params), jnp.float32)
    return lambda image, params: warp(image, family, params), (IMAGE, params)


FUNCTIONS = {
    "bilinear": (sample, (IMAGE, GRID)),
    "bspline3": (partial(sample, method="bspline3"), (IMAGE, GRID)),
    "attention": warped(Attention()),
    "spline": warped(ThinPlateSpline()),
    "tps_grid": (lambda c, t: tps_grid(c, (4, 5), target_points=t), (POINTS, POINTS)),
    "fit_affine": (fit_affine, (POINTS, POINTS)),
    "fit_tps": (fit_tps, (POINTS, POINTS)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_programs_do_not_depend_on_it(name):
    """With gradients, as lowered for a GPU (gathers) and a TPU (matrix products)."""
    function, shapes = FUNCTIONS[name]

    def value_and_gradients(*arrays):
        out, pull = jax.vjp(function, *arrays)
        return out, pull(jnp.ones_like(out))

    texts = set()
    for precision in (PRECISIONS[0], PRECISIONS[-1]):
        with jax.default_matmul_precision(precision):
            # a new function: the traced program of the last one is not reused
            traced = jax.jit(lambda *a: value_and_gradients(*a)).trace(*shapes)
            texts.add(traced.lower(lowering_platforms=PLATFORMS).as_text())
    (text,) = texts
    assert "stablehlo.dot_general" in text


def test_a_plain_matrix_product_does_depend_on_it():
    """What the comparison above would find."""
    texts = set()
    for precision in PRECISIONS:
        with jax.default_matmul_precision(precision):
            x = jnp.ones((3, 3))
            texts.add(jax.jit(lambda x: x @ x).lower(x).as_text())
    assert len(texts) == len(PRECISIONS)


@pytest.mark.parametrize("implementation", ["gather", "dense"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_values_and_gradients_are_precise(rng, precision, implementation):
    """To float32, of an image in which TF32 would err by a thousandth and more."""
    size, out_size = (60, 64), (12, 16)
    image = rng.normal(size=(*size, 8)).astype(np.float32)
    pixel = rng.integers(-2, 64, size=(*out_size, 2)) + rng.uniform(
        0.1, 0.9, size=(*out_size, 2)
    )
    grid = ((2 * pixel + 1) / size[::-1] - 1).astype(np.float32)
    bar = rng.normal(size=(*out_size, 8)).astype(np.float32)
    with jax.default_matmul_precision(precision):
        out, pull = jax.vjp(partial(sample, implementation=implementation), image, grid)
        image_bar, grid_bar = pull(jnp.asarray(bar))
    exact = image.astype(float), grid.astype(float)
    expected = references.bilinear_sample(*exact)
    np.testing.assert_allclose(out, expected, atol=1e-4)
    for ours, theirs in zip(
        (image_bar, grid_bar),
        references.bilinear_gradients(*exact, bar.astype(float)),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())

"""The coefficients of splines: by a matrix, and by the compiled kernel's recursions."""

import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import enable_x64
from scipy import ndimage

from stn_jax.sampling.cpu import compiler
from stn_jax.sampling.kernels import bspline
from stn_jax.sampling.prefilter import coefficients
from stn_jax.sampling.splines import Spline, margin

MODES = ["zeros", "border", "reflection", "wrap"]
needs_compiler = pytest.mark.skipif(
    "CXX" not in os.environ and not any(map(shutil.which, compiler.COMPILERS)),
    reason="no C++ compiler is here",
)


@pytest.mark.parametrize("degree", [2, 3, 4, 5])
def test_poles_and_their_inverses_are_the_zeros_of_the_spline_at_the_integers(degree):
    poles = Spline(degree, 5, "wrap", False).poles()
    values = np.trim_zeros(bspline(np.float64(0), degree=degree))
    assert len(poles) == degree // 2
    for pole in [*poles, *1 / poles]:
        terms = values * pole ** np.arange(len(values))
        assert abs(terms.sum()) < 1e-12 * np.abs(terms).max()


def extended(image, mode, align_corners, extra):
    """The image with so many pixels of its surroundings, by NumPy."""
    if mode == "reflection":
        return np.pad(image, extra, mode="reflect" if align_corners else "symmetric")
    if mode == "wrap":
        return np.pad(image, extra, mode="wrap")
    return np.pad(image, extra, mode="edge" if mode == "border" else "constant")


def on_cpu(function, *arrays, is_on="on"):
    """A function of arrays in float64, compiled with the kernel or without it."""
    with pytest.MonkeyPatch.context() as patch, enable_x64():
        patch.setenv("STN_JAX_CPU", is_on)
        fresh = jax.jit(lambda *arrays: function(*arrays))  # not in jit's cache
        lowered = fresh.lower(*arrays)
        assert ("stn_jax_cpu_prefilter" in lowered.as_text()) == (is_on == "on")
        return np.asarray(lowered.compile()(*arrays))


@needs_compiler
@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("degree", [3, 5])
def test_the_kernel_agrees_with_scipys_filter(degree, mode, align_corners):
    image = np.random.default_rng(0).normal(size=9)
    out = on_cpu(
        lambda x: coefficients(x[:, None], degree, (mode,), align_corners)[:, 0], image
    )
    extra = 96  # so that SciPy's rule at the ends does not matter
    padded = extended(image, mode, align_corners, extra)
    full = ndimage.spline_filter1d(padded, degree, mode="mirror")
    first = extra - margin(mode)
    np.testing.assert_allclose(out, full[first : first + len(out)], atol=1e-11)


@needs_compiler
@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(3, 40, 2, 1), (1, 1, 33), (2, 5, 17, 3)])
def test_the_kernel_agrees_with_the_matrix(mode, shape):
    """All axes of some images: their sum, with the gradients of each entry."""
    rng = np.random.default_rng(0)
    image, modes = rng.normal(size=shape), (mode,) * (len(shape) - 2)

    def both(image):
        out, pull = jax.vjp(lambda x: coefficients(x, 4, modes, True), image)
        bar = jnp.sin(jnp.arange(out.size, dtype=out.dtype)).reshape(out.shape)
        return jnp.concatenate([out.ravel(), pull(bar)[0].ravel()])

    found, expected = on_cpu(both, image), on_cpu(both, image, is_on="off")
    np.testing.assert_allclose(found, expected, atol=1e-10)


@needs_compiler
@pytest.mark.usefixtures("kernel")
def test_derivatives_and_maps_of_the_kernel():
    """Coefficients are linear: a tangent's are the coefficients' tangent."""
    rng = np.random.default_rng(0)
    image, dot = rng.normal(size=(2, 3, 6, 5, 2))
    one = lambda x: coefficients(x, 3, ("border", "wrap"), False)  # noqa: E731
    expected = on_cpu(one, dot, is_on="off")
    found = on_cpu(lambda x, dot: jax.jvp(one, (x,), (dot,))[1], image, dot)
    np.testing.assert_allclose(found, expected, atol=1e-11)
    mapped = on_cpu(jax.vmap(one, -2, 1), np.moveaxis(dot, 0, -2))
    np.testing.assert_allclose(np.moveaxis(mapped, 1, 0), expected, atol=1e-11)
    second = on_cpu(jax.hessian(lambda x: (one(x) ** 2).sum()), dot[0, :2, :2, :1])
    plain = jax.hessian(lambda x: (one(x) ** 2).sum())
    expected = on_cpu(plain, dot[0, :2, :2, :1], is_on="off")
    np.testing.assert_allclose(second, expected, rtol=1e-9, atol=1e-11)


@needs_compiler
@pytest.mark.usefixtures("kernel")
def test_single_precision_and_complex_pixels():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(2, 50, 33, 3)).astype(np.float32)
    one = lambda x: coefficients(x, 5, ("zeros", "border"), False)  # noqa: E731
    found = on_cpu(one, image)
    exact = on_cpu(one, image.astype(float), is_on="off")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, exact, atol=2e-6 * np.abs(exact).max())
    pairs = on_cpu(one, image + 1j * image[..., ::-1])
    np.testing.assert_allclose(pairs, exact + 1j * exact[..., ::-1], atol=1e-4)

"""The sampling primitive: equal to plain JAX in all derivatives, under all maps."""

import re
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stn_jax import Kernel, bilinear_sample, flow_grid, sample
from stn_jax.sampling.gather import gather_sum
from stn_jax.sampling.kernels import METHODS
from stn_jax.sampling.padding import RULES
from stn_jax.sampling.plan import Axis, Plan
from stn_jax.sampling.weighted_sum import weighted_sum

pytestmark = pytest.mark.usefixtures("strict")
SIZES = {2: (5, 4), 3: (3, 4, 2)}
slow = partial(pytest.param, marks=pytest.mark.slow)


def plan_of(size, mode="zeros", method="bilinear"):
    return Plan(
        method=method,
        axes=tuple(Axis(n, mode, 0, False, "normalized") for n in size),
        dtype=jnp.dtype(float),
        implementation=None,
        is_filled=False,
        is_residual=False,
        is_hard=False,
    )


def both_ways(size, mode="zeros", method="bilinear"):
    """The primitive, and the plain sum that defines it."""
    plan = plan_of(size, mode, method)
    return partial(weighted_sum, plan=plan), partial(gather_sum, plan=plan)


def inputs(rng, size, channels, batch=()):
    image = jnp.asarray(rng.normal(size=(*batch, *size, channels)))
    points = rng.uniform(-1.5, 1.5, size=(*batch, 3, 4, len(size)))
    return image, jnp.asarray(points)


SOME = [(2, "bilinear", mode) for mode in RULES] + [
    (2, "bicubic", "border"),
    (2, "bspline3", "zeros"),
]
OTHERS = [(3, "bilinear", mode) for mode in RULES] + [
    (2, method, mode)
    for method in METHODS
    for mode in ("constant", "wrap")
    if (2, method, mode) not in SOME
]


@pytest.mark.parametrize(
    ("ndim", "method", "mode", "channels"),
    [
        *((2, "bilinear", mode, 1) for mode in ("zeros", "reflection")),
        (2, "bilinear", "zeros", 9),
        (2, "bicubic", "border", 1),
        *(slow(*case, channels) for case in SOME + OTHERS for channels in (3, 9)),
    ],
)
def test_gradients_are_those_of_plain_jax(rng, x64, ndim, method, mode, channels):
    """Each alone and both together, with channels few and many."""
    image, points = inputs(rng, SIZES[ndim], channels)
    ours, plain = both_ways(SIZES[ndim], mode, method)
    bar = jnp.asarray(rng.normal(size=(3, 4, channels)))

    @partial(jax.jit, static_argnums=(0, 1))
    def gradients(function, needs_grad):
        def loss(image, points):
            return (bar * jnp.sin(function(image, points))).sum()

        return jax.value_and_grad(loss, needs_grad)(image, points)

    for needs_grad in (0, 1, (0, 1)):
        chex.assert_trees_all_close(
            gradients(ours, needs_grad),
            gradients(plain, needs_grad),
            rtol=1e-12,
            atol=1e-12,
        )


def test_derivatives_of_any_order_and_mode(rng, x64):
    size = (3, 4)
    arrays, dots = inputs(rng, size, 2), inputs(rng, size, 2)

    @partial(jax.jit, static_argnums=0)
    def derivatives(function, arrays, dots):
        image, points = arrays

        def loss(arrays):
            return jnp.sin(function(*arrays)).sum()

        def slope(arrays):
            (first, second), along = jax.grad(loss)(arrays), dots
            return (first * along[0]).sum() + (second * along[1]).sum()

        return {
            "jvp": jax.jvp(loss, (arrays,), (dots,)),
            "jvp of the image": jax.jvp(
                lambda u: function(u, points), (image,), (dots[0],)
            ),
            "forward over reverse": jax.jvp(jax.grad(loss), (arrays,), (dots,)),
            "reverse over reverse": jax.grad(slope)(arrays),
            "reverse over forward": jax.grad(lambda a: jax.jvp(loss, (a,), (dots,))[1])(
                arrays
            ),
            "third": jax.jvp(jax.grad(slope), (arrays,), (dots,)),
        }

    ours, plain = (derivatives(function, arrays, dots) for function in both_ways(size))
    chex.assert_trees_all_close(ours, plain, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("in_axes", [(0, 0), (None, 0), slow((0, None)), slow((2, 1))])
@pytest.mark.parametrize("needs_grad", [slow(0), slow(1), (0, 1)])
def test_mapped_gradients(rng, x64, in_axes, needs_grad):
    """vmap of grad and grad of vmap, with an image for each example or for all."""
    size = (3, 4)
    image, points = inputs(rng, size, 3, (5,))
    arrays = [
        x[0] if axis is None else jnp.moveaxis(x, 0, axis)
        for x, axis in zip((image, points), in_axes, strict=True)
    ]

    # not closed over: jaxlib 0.7.2 folds the plain sum's scatter wrongly if constant
    @partial(jax.jit, static_argnums=0)
    def gradients(function, image, points):
        def loss(image, points):
            return jnp.sin(function(image, points)).sum()

        def mapped(image, points):
            return jax.vmap(loss, in_axes)(image, points).sum()

        twice = jax.vmap(jax.vmap(jax.grad(loss, needs_grad), in_axes), (None, 0))
        return (
            jax.vmap(jax.grad(loss, needs_grad), in_axes)(image, points),
            jax.grad(mapped, needs_grad)(image, points),
            twice(image, jnp.stack([points, -points])),
        )

    ours, plain = (gradients(function, *arrays) for function in both_ways(size))
    chex.assert_trees_all_close(ours, plain, rtol=1e-12, atol=1e-12)


def test_an_image_for_many_grids_is_not_copied(rng):
    """The program's memory grows with the grids, not with copies of the image."""
    image = jax.ShapeDtypeStruct((512, 512, 3), jnp.float32)
    grids = jax.ShapeDtypeStruct((64, 8, 8, 2), jnp.float32)

    def loss(image, grids):
        return bilinear_sample(image, grids).sum()

    for function in (bilinear_sample, jax.grad(loss, 1), jax.grad(loss, (0, 1))):
        for batched in (function, jax.vmap(function, (None, 0))):
            if function is not bilinear_sample and batched is not function:
                continue  # a user's vmap of it asks for a gradient for each grid
            memory = jax.jit(batched).lower(image, grids).compile().memory_analysis()
            image_bytes = 512 * 512 * 3 * 4
            assert memory.temp_size_in_bytes < 2 * image_bytes


def test_gradients_that_are_not_needed_are_not_computed():
    """No scatter where the image is an input."""
    image = jnp.ones((4, 5, 6, 3))
    grid = jnp.zeros((4, 7, 8, 2))

    def text(needs_grad):
        gradient = jax.grad(lambda *a: bilinear_sample(*a).sum(), needs_grad)
        return jax.jit(gradient).lower(image, grid).as_text()

    assert "scatter" in text((0, 1))
    assert "scatter" not in text(1)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_gradients_of_half_precision(rng, dtype):
    """Sums in float32, rounded once: closer to the truth than the dtype's own sums."""
    image = jnp.asarray(rng.normal(size=(4, 5, 3)), dtype)
    grid = jnp.asarray(rng.uniform(-1, 1, size=(30, 30, 2)), jnp.float32)

    def gradients(image):
        def loss(image, grid):
            return bilinear_sample(image, grid).astype(jnp.float32).sum()

        return jax.jit(jax.grad(loss, (0, 1)))(image, grid)

    ours, exact = gradients(image), gradients(image.astype(jnp.float32))
    assert ours[0].dtype == dtype
    assert ours[1].dtype == jnp.float32
    for a, b in zip(ours, exact, strict=True):
        bound = 2 * float(jnp.finfo(dtype).eps) * np.abs(b).max()
        np.testing.assert_allclose(a.astype(jnp.float32), b, atol=bound)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_other_platforms_sum_gradients_of_half_precision_in_float32(platform):
    """XLA adds there in the dtype of the scatter, and rounds after each addition."""
    image = jnp.ones((70, 70, 3), jnp.bfloat16)  # too large for a TPU's products
    grid = jnp.zeros((30, 30, 2))
    traced = jax.jit(jax.grad(lambda x: bilinear_sample(x, grid).sum())).trace(image)
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    updates = re.findall(r"stablehlo.scatter.*?\) : \((.*?)\) ->", text, re.DOTALL)
    assert updates
    assert all("bf16" not in update for update in updates)


@pytest.mark.parametrize("padding_mode", ["constant", "reflection", "wrap"])
def test_a_fill_that_is_not_finite_stays_outside(rng, padding_mode):
    image = jnp.asarray(rng.normal(size=(4, 5, 2)), jnp.float32)
    points = jnp.array([[[1.25, 2.5], [1e9, 0.0], [3.0, 3.0]]])
    options = {"padding_mode": padding_mode, "coordinates": "pixel"}
    out = sample(image, points, fill_value=jnp.inf, **options)
    np.testing.assert_array_equal(out[0, 1], [np.inf, np.inf])
    np.testing.assert_allclose(
        out[0, 0], sample(image, points, **options)[0, 0], rtol=1e-6
    )


QUICK = [("nearest", "gather"), ("bilinear", "gather"), ("bicubic", "gather")]
QUICK += [("bilinear", "dense"), ("bspline3", "gather")]


@pytest.mark.parametrize(
    ("method", "implementation"),
    [
        (method, way) if (method, way) in QUICK else slow(method, way)
        for method in METHODS
        for way in ("gather", "dense")
    ],
)
def test_the_transpose_in_the_image(rng, method, implementation):
    """<A u, v> = <u, A^T v>; and it is the gradient."""
    image, grid = inputs(rng, (4, 3), 2)
    image, grid = (jnp.asarray(x, jnp.float32) for x in (image, grid))
    options = {"padding_mode": "reflection", "implementation": implementation}

    def values(image):
        return sample(image, grid, method=method, **options)

    bar = jnp.asarray(rng.normal(size=(3, 4, 2)), jnp.float32)

    @jax.jit
    def products(image, bar):
        (image_bar,) = jax.linear_transpose(values, image)(bar)
        (gradient,) = jax.vjp(values, image)[1](bar)
        return image_bar, gradient, (values(image) * bar).sum()

    image_bar, gradient, expected = products(image, bar)
    chex.assert_trees_all_close(image_bar, gradient, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose((image * image_bar).sum(), expected, rtol=1e-4)


@pytest.mark.parametrize("level", [0, 3])
@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
def test_a_whole_shift_is_exact_however_xla_compiles_it(rng, method, level):
    """Points at pixels, the hardest ones for floor: rounding may not part the index of
    a pixel from its weight.

    The grid is computed in the same program or given. The sums are NumPy's.
    """
    (h, w), (dx, dy) = (60, 320), (-6, 2)
    image = rng.uniform(size=(h, w, 4)).astype(np.float32)
    flow = np.broadcast_to(np.float32([dx, dy]), (h, w, 2))
    y, x = np.mgrid[max(-dy, 0) : h - max(dy, 0), max(-dx, 0) : w - max(dx, 0)]
    moved, back = np.zeros_like(image), np.zeros_like(image)
    moved[y, x] = image[y + dy, x + dx]
    np.add.at(back, (y + dy, x + dx), image[y, x])

    def both(image, grid):
        out, transpose = jax.vjp(lambda im: sample(im, grid, method=method), image)
        return out, transpose(image)[0]

    for function, points in (
        (both, flow_grid(flow)),
        (lambda image, flow: both(image, flow_grid(flow)), jnp.asarray(flow)),
    ):
        lowered = jax.jit(function).lower(image, points)
        options = {"xla_backend_optimization_level": level}
        program = lowered.compile(compiler_options=options)
        for found, expected in zip(program(image, points), (moved, back), strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_transpose_of_a_custom_kernel_and_under_vmap(rng):
    image, grid = inputs(rng, (4, 3), 2, (3,))
    kernel = Kernel(1.0, lambda d: 1 - jnp.abs(d))

    def transposed(method):
        def one(grid, bar):
            values = partial(sample, grid=grid, method=method)
            return jax.linear_transpose(values, image[0])(bar)[0]

        return jax.jit(jax.vmap(one))(grid, jnp.ones((3, 3, 4, 2)))

    image, grid = (jnp.asarray(x, jnp.float32) for x in (image, grid))
    chex.assert_trees_all_close(
        transposed(kernel), transposed("bilinear"), rtol=1e-5, atol=1e-5
    )


def test_samples_are_not_linear_in_the_grid():
    image, grid = jnp.ones((4, 3, 1)), jnp.zeros((2, 2, 2))
    with pytest.raises(NotImplementedError, match="linear in the image, not in the gr"):
        jax.linear_transpose(partial(bilinear_sample, image), grid)(jnp.ones((2, 2, 1)))

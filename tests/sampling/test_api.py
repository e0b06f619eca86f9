"""`sample` and `bilinear_sample`: values, batches, dtypes, gradients, errors."""

import itertools
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references
from gradients import check_derivatives
from scipy import ndimage

from stn_jax import (
    affine_grid,
    bilinear_sample,
    identity_grid,
    inside,
    sample,
    to_normalized,
)

MODES = ["zeros", "constant", "border", "reflection", "wrap"]
CORNERS = [False, True]
SIZES = [(3, 4), (1, 5), (2, 3, 4), (1, 1)]
OTHERS = [(2, "bicubic"), (3, "nearest")]  # kernels with programs that take long
slow = partial(pytest.param, marks=pytest.mark.slow)


# align_corners says where pixels are, and of the rules alone what a reflection does
each_rule = pytest.mark.parametrize(
    ("padding_mode", "align_corners"),
    [
        *((mode, False) for mode in MODES),
        ("reflection", True),
        *(slow(mode, True) for mode in MODES if mode != "reflection"),
    ],
)
pytestmark = pytest.mark.usefixtures("strict")


def fill_of(padding_mode):
    return {"fill_value": 0.7} if padding_mode == "constant" else {}


# values


@each_rule
@pytest.mark.parametrize("size", SIZES)
def test_agrees_with_the_definition(rng, size, padding_mode, align_corners):
    image = rng.normal(size=(*size, 3)).astype(np.float32)
    out_size = (5, 2, 3)[: len(size)]
    grid = rng.uniform(-3, 3, size=(*out_size, len(size))).astype(np.float32)
    out = bilinear_sample(
        image,
        grid,
        padding_mode=padding_mode,
        align_corners=align_corners,
        **fill_of(padding_mode),
    )
    expected = references.bilinear_sample(
        image, grid.astype(float), padding_mode, align_corners, 0.7
    )
    np.testing.assert_allclose(out, expected, atol=5e-6)


@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
@pytest.mark.parametrize(
    ("ndim", "method", "align_corners"),
    [
        *(
            (2, method, align)
            for method in ("bilinear", "nearest")
            for align in CORNERS
        ),
        *(slow(3, "bilinear", align) for align in CORNERS),
        *(slow(*case, align) for case in OTHERS for align in CORNERS),
    ],
)
def test_agrees_with_pytorch(
    torch_fixtures, x64, ndim, method, padding_mode, align_corners
):
    """Values and both gradients, off the lattice, in both precisions."""

    @jax.jit
    def values_and_gradients(image, grid, cotangent):
        options = {"padding_mode": padding_mode, "align_corners": align_corners}
        sampled = partial(sample, method=method, **options)
        out, vjp = jax.vjp(sampled, image, grid)
        return out, *vjp(cotangent)

    inputs = [torch_fixtures[f"{ndim}/{k}"] for k in ("image", "grid", "cotangent")]
    name = f"{ndim}/{align_corners}/{padding_mode}/{method}"
    for dtype, tolerance in ((jnp.float64, 1e-10), (jnp.float32, 1e-5)):
        ours = values_and_gradients(*(jnp.asarray(x, dtype) for x in inputs))
        for array, what in zip(
            ours, ("out", "image_gradient", "grid_gradient"), strict=True
        ):
            assert array.dtype == dtype
            expected = torch_fixtures[f"{name}/{what}"]
            atol = tolerance * max(1, np.abs(expected).max())
            np.testing.assert_allclose(array, expected, rtol=tolerance, atol=atol)


@pytest.mark.parametrize("batch", [(), (1,), (3, 2)])
@pytest.mark.parametrize("ndim", [2, 3])
def test_agrees_with_pytorch_in_every_batch_shape(torch_fixtures, x64, ndim, batch):
    """PyTorch knows one batch axis; its examples, with none, one, or two of them."""

    def batched(name):
        examples = torch_fixtures[f"{ndim}/{name}"][: int(np.prod(batch))]
        return examples.reshape(*batch, *examples.shape[1:])

    out = bilinear_sample(batched("image"), batched("grid"))
    expected = batched("False/zeros/bilinear/out")
    np.testing.assert_allclose(out, expected, rtol=1e-10, atol=1e-10)
    expected = batched("False/affine_grid")
    grid = affine_grid(batched("theta"), expected.shape[-ndim - 1 : -1])
    np.testing.assert_allclose(grid, expected, atol=1e-14)


def test_agrees_with_scipy(rng):
    image = rng.normal(size=(6, 9, 2)).astype(np.float32)
    pixels = rng.uniform(-3, 11, size=(5, 8, 2))  # (x, y)
    grid = to_normalized(pixels.astype(np.float32), (6, 9))
    out = bilinear_sample(image, grid, padding_mode="constant", fill_value=-1.5)
    for channel in range(2):
        expected = ndimage.map_coordinates(
            image[..., channel],
            np.moveaxis(pixels[..., ::-1], -1, 0),
            order=1,
            mode="grid-constant",
            cval=-1.5,
        )
        np.testing.assert_allclose(out[..., channel], expected, atol=1e-5)


@each_rule
@pytest.mark.parametrize("size", SIZES)
def test_the_identity_gives_the_image_back(rng, size, padding_mode, align_corners):
    image = rng.normal(size=(*size, 2)).astype(np.float32)
    grid = identity_grid(size, align_corners=align_corners)
    out = bilinear_sample(
        image, grid, padding_mode=padding_mode, align_corners=align_corners
    )
    np.testing.assert_allclose(out, image, atol=5e-6)


def test_constant_takes_a_value_for_each_channel():
    outside = jnp.full((2, 2, 2), 9.0)
    fill = jnp.array([0.25, 0.5, -1.0])
    out = bilinear_sample(
        jnp.ones((4, 4, 3)), outside, padding_mode="constant", fill_value=fill
    )
    np.testing.assert_array_equal(out, np.broadcast_to(fill, (2, 2, 3)))


def test_all_corners_of_all_modes_are_distinct():
    """The four modes differ where they should: just outside a corner."""
    image = jnp.arange(1.0, 10.0).reshape(3, 3, 1)
    point = to_normalized(jnp.array([[[-1.75, 1.0]]]), (3, 3))
    values = {
        mode: float(
            bilinear_sample(image, point, padding_mode=mode, **fill_of(mode))[0, 0, 0]
        )
        for mode in MODES
    }
    for a, b in itertools.combinations(MODES, 2):
        assert values[a] != values[b]


# leading axes


@pytest.mark.parametrize(
    ("image_batch", "grid_batch"),
    [((), ()), ((1,), (1,)), ((3, 2), (3, 2)), ((), (4,)), ((4,), ()), ((3, 1), (2,))],
)
def test_leading_axes_broadcast(rng, image_batch, grid_batch):
    image = rng.normal(size=(*image_batch, 3, 5, 2)).astype(np.float32)
    grid = rng.uniform(-1.5, 1.5, size=(*grid_batch, 4, 2, 2)).astype(np.float32)
    out = bilinear_sample(image, grid)
    shape = np.broadcast_shapes(image_batch, grid_batch)
    assert out.shape == (*shape, 4, 2, 2)
    images = np.broadcast_to(image, (*shape, 3, 5, 2))
    grids = np.broadcast_to(grid, (*shape, 4, 2, 2))
    for index in np.ndindex(*shape):
        expected = references.bilinear_sample(images[index], grids[index].astype(float))
        np.testing.assert_allclose(out[index], expected, atol=5e-6)


def test_one_image_under_many_grids_is_not_copied():
    image = jax.ShapeDtypeStruct((256, 256, 3), jnp.float32)
    grids = jax.ShapeDtypeStruct((64, 8, 8, 2), jnp.float32)
    compiled = jax.jit(bilinear_sample).lower(image, grids).compile()
    temporary = compiled.memory_analysis().temp_size_in_bytes
    assert temporary < 256 * 256 * 3 * 4  # not even one copy


def test_no_retrace_for_the_same_shapes(rng):
    traced_once = jax.jit(chex.assert_max_traces(bilinear_sample, n=1))
    for _ in range(3):
        traced_once(rng.normal(size=(2, 3, 3, 1)), rng.normal(size=(2, 3, 3, 2)))


# dtypes


@pytest.mark.parametrize(
    "dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.complex64]
)
def test_images_keep_their_dtype_and_coordinates_their_precision(rng, dtype):
    """In bfloat16 coordinates, 1000.5 would be 1000."""
    image = jnp.asarray(np.arange(2000) % 2, dtype)[None, :, None]
    pixels = np.array([[[1000.25, 0.0], [1000.5, 0.0], [1001.75, 0.0]]], np.float32)
    out = bilinear_sample(image, to_normalized(pixels, (1, 2000)))
    assert out.dtype == dtype
    expected = np.array([0.25, 0.5, 0.25])
    np.testing.assert_allclose(np.asarray(out[0, :, 0], complex), expected, atol=5e-3)


def test_double_precision_stays(x64, rng):
    image, grid = rng.normal(size=(3, 4, 1)), rng.uniform(-1, 1, size=(2, 2, 2))
    out = bilinear_sample(image, grid)
    assert out.dtype == jnp.float64
    expected = references.bilinear_sample(image, grid)
    np.testing.assert_allclose(out, expected, atol=1e-14)


# gradients


@pytest.mark.parametrize(
    ("size", "padding_mode"),
    [
        *(((3, 4), mode) for mode in ("zeros", "reflection")),
        *(slow((3, 4), mode) for mode in ("constant", "border", "wrap")),
        *(slow((2, 3, 2), mode) for mode in MODES),
    ],
)
def test_gradients_agree_with_finite_differences(x64, rng, size, padding_mode):
    image, ndim = rng.normal(size=(*size, 2)), len(size)
    # off the lattice, where the gradient is one-sided, by more than the step
    cells = rng.integers(-3, 6, size=(*(3, 2, 2)[:ndim], ndim))
    pixels = cells + rng.uniform(0.1, 0.9, size=cells.shape)
    grid = to_normalized(pixels, size)

    def sampled(image, grid):
        return bilinear_sample(
            image, grid, padding_mode=padding_mode, **fill_of(padding_mode)
        )

    check_derivatives(sampled, [image, grid])


@pytest.mark.parametrize("padding_mode", MODES)
def test_on_the_lattice_the_gradient_is_right_hand(rng, padding_mode):
    """The trap: with ceil as the upper neighbor it would be zero here.

    Of four pixels, since their centers are exact in normalized coordinates.
    """
    image = jnp.array(rng.normal(size=(1, 4, 1)), jnp.float32)

    @jax.jit
    @jax.grad
    def slope_at(x):
        point = to_normalized(jnp.stack([x, jnp.zeros_like(x)])[None, None], (1, 4))
        return bilinear_sample(image, point, padding_mode=padding_mode)[0, 0, 0]

    row = image[0, :, 0]
    for x in range(3):
        slope = slope_at(jnp.float32(x))
        np.testing.assert_allclose(slope, row[x + 1] - row[x], rtol=1e-4)


def test_an_identity_transformer_has_a_gradient(rng):
    """Where every transformer starts, all coordinates are integers."""
    image = jnp.array(rng.normal(size=(6, 6, 1)), jnp.float32)

    def brightness(theta):
        return (bilinear_sample(image, affine_grid(theta, (6, 6))) ** 2).sum()

    gradient = jax.grad(brightness)(jnp.eye(2, 3))
    assert (jnp.abs(gradient) > 1e-3).all()


def test_gradients_under_vmap_scan_and_checkpoint(rng):
    image = jnp.array(rng.normal(size=(4, 5, 6, 2)), jnp.float32)
    grid = jnp.array(rng.uniform(-1.2, 1.2, size=(4, 3, 3, 2)), jnp.float32)

    def loss(image, grid):
        return (bilinear_sample(image, grid) ** 2).sum()

    def scanned(image, grid):
        def body(total, pair):
            return total + loss(*pair), None

        return jax.lax.scan(body, jnp.float32(0), (image, grid))[0]

    def mapped(image, grid):
        return jax.vmap(jax.checkpoint(loss))(image, grid).sum()

    expected = jax.grad(loss, (0, 1))(image, grid)
    for other in (scanned, mapped):
        gradient = jax.jit(jax.grad(other, (0, 1)))(image, grid)
        chex.assert_trees_all_close(gradient, expected, atol=1e-5)


# hostile coordinates


@each_rule
@pytest.mark.parametrize("far", [np.inf, -1e30, 3e7, *map(slow, (-np.inf, 1e30))])
def test_far_away_is_the_padding_with_no_gradient(padding_mode, align_corners, far):
    image = jnp.arange(1.0, 7.0).reshape(2, 3, 1)
    fill = (
        {"fill_value": 0.7}
        if padding_mode in ("constant", "reflection", "wrap")
        else {}
    )

    def sampled(x):
        grid = jnp.stack([x, jnp.zeros_like(x)])[None, None]
        return bilinear_sample(
            image, grid, padding_mode=padding_mode, align_corners=align_corners, **fill
        )[0, 0, 0]

    value, slope = jax.value_and_grad(sampled)(jnp.float32(far))
    edge = 3.5 + np.sign(far) * 1 if padding_mode == "border" else 0
    expected = {"zeros": 0, "border": edge}.get(padding_mode, 0.7)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    assert slope == 0


@pytest.mark.parametrize("padding_mode", MODES)
def test_nan_gives_nan_there_and_nowhere_else(padding_mode):
    image = jnp.ones((3, 3, 2))
    grid = jnp.zeros((2, 2, 2)).at[0, 1, 0].set(jnp.nan)

    def sampled(image, grid):
        return bilinear_sample(image, grid, padding_mode=padding_mode)

    out = sampled(image, grid)
    expected = np.array([[False, True], [False, False]])
    np.testing.assert_array_equal(np.isnan(out).all(axis=-1), expected)
    np.testing.assert_array_equal(np.isnan(out).any(axis=-1), expected)
    image_gradient, _ = jax.grad(lambda i, g: jnp.nansum(sampled(i, g)), (0, 1))(
        image, grid
    )
    assert jnp.isfinite(image_gradient).all()


# options


def pixels(rng, size, low=-6.0, high=12.0):
    return rng.uniform(low, high, size=(*size, len(size)))


@pytest.mark.parametrize("method", ["bilinear", "bspline3"])
def test_one_padding_mode_for_each_axis(rng, method):
    """A panorama: it wraps in x and ends in y."""
    image = rng.normal(size=(4, 6, 1)).astype(np.float32)
    points = pixels(rng, (7, 7), -9, 14).astype(np.float32)
    out = sample(
        image,
        points,
        method=method,
        padding_mode=("border", "wrap"),
        coordinates="pixel",
    )
    tiled = np.tile(image, (1, 9, 1))
    points = points + np.array([24, 0], np.float32)
    expected = sample(
        tiled, points, method=method, padding_mode="border", coordinates="pixel"
    )
    np.testing.assert_allclose(out, expected, atol=1e-4)


@pytest.mark.parametrize("align_corners", CORNERS)
@pytest.mark.parametrize("method", ["nearest", "bilinear", "bicubic", "bspline3"])
def test_a_hard_edge(rng, method, align_corners):
    """The fill value exactly where `inside` is False."""
    image = rng.normal(size=(5, 6, 2)).astype(np.float32)
    points = pixels(rng, (9, 9), -2, 7).astype(np.float32)
    points[0, 0] = -0.3, 2.0  # outside the corners, inside the edges
    fill = jnp.array([7.0, -7.0])
    corners = {"coordinates": "pixel", "align_corners": align_corners}
    options = {"method": method, **corners}
    out = sample(image, points, outside="fill", fill_value=fill, **options)
    within = inside(points, (5, 6), **corners)
    assert within[0, 0] == (not align_corners)
    assert 0 < within.sum() < within.size
    bordered = sample(image, points, padding_mode="border", **options)
    expected = jnp.where(within[..., None], bordered, jnp.broadcast_to(fill, out.shape))
    chex.assert_trees_all_close(out, expected, atol=1e-5)


# errors


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.int32, bool])
def test_integer_images_are_refused_with_a_conversion(dtype):
    with pytest.raises(TypeError, match=r"image must be floating.*astype\('float32'\)"):
        bilinear_sample(jnp.zeros((3, 3, 1), dtype), jnp.zeros((2, 2, 2)))


@pytest.mark.parametrize(
    ("image", "grid", "message"),
    [
        ((3, 3, 1), (2, 2), r"grid must be .*got shape \(2, 2\)"),
        ((3, 3, 1), (2, 2, 4), r"grid must be .*got shape \(2, 2, 4\)"),
        ((3, 3, 1), (2, 2, 1), r"grid must be .*got shape \(2, 2, 1\)"),
        ((3, 3, 1), (2, 2, 3), r"grid must be .*got shape \(2, 2, 3\)"),
        ((3, 3), (2, 2, 2), r"image must be \(\*batch, H, W, C\).*got shape \(3, 3\)"),
        ((3, 3, 1), (2, 2, 2, 3), r"image must be \(\*batch, D, H, W, C\)"),
        ((0, 3, 1), (2, 2, 2), "at least one pixel"),
        ((4, 3, 3, 1), (3, 2, 2, 2), r"\(4,\) of image and \(3,\) of grid"),
    ],
)
def test_shapes_that_do_not_fit(image, grid, message):
    with pytest.raises(ValueError, match=message):
        bilinear_sample(jnp.zeros(image), jnp.zeros(grid))


@pytest.mark.parametrize("padding_mode", ["Zeros", "nearest", None, 3, ["zeros"]])
def test_unknown_modes_are_refused_with_the_known_ones(padding_mode):
    with pytest.raises(
        ValueError, match=r"'zeros', 'constant', 'border', 'reflection'"
    ):
        bilinear_sample(
            jnp.zeros((3, 3, 1)), jnp.zeros((2, 2, 2)), padding_mode=padding_mode
        )


def test_a_fill_value_must_be_able_to_show_and_fit():
    image, grid = jnp.zeros((3, 3, 2)), jnp.zeros((2, 2, 2))
    for padding_mode in ("zeros", "border"):
        with pytest.raises(ValueError, match=r"never shows fill_value=0\.5"):
            bilinear_sample(image, grid, padding_mode=padding_mode, fill_value=0.5)
    with pytest.raises(ValueError, match=r"2 channels; got shape \(3,\)"):
        bilinear_sample(image, grid, padding_mode="constant", fill_value=jnp.zeros(3))


def test_coordinates_must_be_real():
    for dtype in (bool, jnp.complex64):
        with pytest.raises(TypeError, match="grid must hold real numbers; got dtype"):
            bilinear_sample(jnp.zeros((3, 3, 1)), jnp.zeros((2, 2, 2), dtype))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "cubic"}, r"method must be one of 'nearest', .*, or a Kernel; got"),
        ({"method": 3}, "or a Kernel; got 3"),
        ({"coordinates": "pixels"}, "coordinates must be one of 'normalized', 'pixel'"),
        ({"outside": None}, "outside must be one of 'blend', 'fill'; got None"),
        ({"padding_mode": ("zeros", "constant")}, "not both"),
    ],
)
def test_unknown_options(options, message):
    with pytest.raises(ValueError, match=message):
        sample(jnp.zeros((3, 3, 1)), jnp.zeros((2, 2, 2)), **options)

"""`warp`: a family's grid and a sampler in one call."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stn_jax import Kernel, Sampler, identity_grid, sample, warp
from stn_jax.transforms import Affine, Attention, ThinPlateSpline

pytestmark = pytest.mark.usefixtures("strict")
CORNERS = [False, True]


@pytest.mark.parametrize("align_corners", CORNERS)
def test_warp_samples_on_the_familys_grid(rng, align_corners):
    image = jnp.asarray(rng.normal(size=(3, 2, 5, 6, 2)), jnp.float32)
    family = ThinPlateSpline((3, 3))
    params = (
        family.identity + jnp.asarray(0.2 * rng.normal(size=(2, 18)), jnp.float32)[0]
    )
    options = {"method": "bicubic", "padding_mode": "border"}
    out = warp(image, family, params, (4, 3), align_corners=align_corners, **options)
    grid = family.grid(params, (4, 3), align_corners=align_corners)
    expected = sample(image, grid, align_corners=align_corners, **options)
    assert out.shape == (3, 2, 4, 3, 2)
    chex.assert_trees_all_close(out, expected, atol=1e-5)
    sampler = Sampler(align_corners=align_corners, **options)
    again = warp(image, family, params, (4, 3), sampler=sampler)
    chex.assert_trees_all_equal(again, out)


def test_warp_keeps_the_images_size(rng):
    volume = jnp.asarray(rng.normal(size=(2, 3, 4, 5, 1)), jnp.float32)
    family = Affine(ndim=3)
    chex.assert_trees_all_close(
        warp(volume, family, family.identity), volume, atol=1e-5
    )
    kernel = Kernel(1, lambda d: 1 - jnp.abs(d))
    out = warp(volume, family, family.identity, method=kernel)
    chex.assert_trees_all_close(out, volume, atol=1e-5)


def test_a_custom_family_needs_three_members():

    class Shift:
        num_params = 1
        identity = jnp.zeros(1)

        def grid(self, params, size, *, align_corners=False):
            shift = jnp.stack([params[..., 0], jnp.zeros_like(params[..., 0])], axis=-1)
            return identity_grid(size, align_corners=align_corners) + jnp.broadcast_to(
                shift, (*size, 2)
            )

    image = jnp.arange(4.0).reshape(1, 4, 1)
    out = warp(image, Shift(), jnp.array([0.5]))
    np.testing.assert_allclose(out[0, :, 0], [1, 2, 3, 0], atol=1e-6)


def test_scale_and_translate(rng):
    """Attention is jax.image's scaling and shifting, in other units."""
    image = jnp.asarray(rng.normal(size=(9, 12, 1)), jnp.float32)
    params = jnp.array([0.5, 0.2, -0.1])
    out = warp(image, Attention(), params, padding_mode="border")
    half = jnp.array([4.5, 6.0])
    scale = 1 / params[0] * jnp.ones(2)
    # output = scale * input + translation, with edges at 0 and n
    translation = half - scale * half * (1 + jnp.flip(params[1:]))
    expected = jax.image.scale_and_translate(
        image, image.shape, (0, 1), scale, translation, "linear", antialias=False
    )
    np.testing.assert_allclose(out, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("family", "options"),
    [
        (Affine(), {}),
        (Attention(), {}),
        (Attention(), {"implementation": "dense"}),
        (Attention(), {"antialias": True, "outside": "fill"}),
    ],
    ids=str,
)
def test_the_transpose_in_the_image(rng, family, options):
    """<A u, v> = <u, A^T v>."""
    image = jnp.asarray(rng.normal(size=(4, 5, 2)), jnp.float32)
    bar = jnp.asarray(rng.normal(size=(3, 3, 2)), jnp.float32)
    params = family.identity + jnp.float32(0.1)

    @jax.jit
    def products(image, bar):
        def values(image):
            return warp(image, family, params, (3, 3), **options)

        (image_bar,) = jax.linear_transpose(values, image)(bar)
        return (image * image_bar).sum(), (values(image) * bar).sum()

    np.testing.assert_allclose(*products(image, bar), rtol=1e-4)


@pytest.mark.parametrize("family", [Affine(), Attention()], ids=str)
def test_empty_batches(family):
    images, params = jnp.zeros((0, 4, 5, 1)), jnp.zeros((0, family.num_params))
    assert warp(images, family, params, (3, 3)).shape == (0, 3, 3, 1)


# the sampler


def test_a_sampler_or_its_options():
    image, identity = jnp.ones((4, 5, 1)), Affine().identity
    with pytest.raises(TypeError, match=r"either a sampler .* got sampler and meth"):
        warp(image, Affine(), identity, sampler=Sampler(), method="bilinear")
    with pytest.raises(TypeError, match="sampler must be a Sampler; got 'bicubic'"):
        warp(image, Affine(), identity, sampler="bicubic")


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("family", [Affine(), Attention()], ids=str)
def test_pixel_coordinates_are_refused(family, antialias):
    arguments = jnp.ones((4, 5, 1)), family, family.identity
    sampler = Sampler(coordinates="pixel")
    for options in ({"coordinates": "pixel"}, {"sampler": sampler}):
        with pytest.raises(ValueError, match=r'coordinates must be "nor.*got \'pix'):
            warp(*arguments, antialias=antialias, **options)
    warp(jnp.ones((4, 5, 1)), Affine(), Affine().identity, coordinates="normalized")


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("name", ["padding", "methd", "fillvalue"])
def test_unknown_options_are_named(name, antialias):
    image, family = jnp.ones((4, 5, 1)), Attention()
    options = {"antialias": antialias, "outside": "fill", name: "border"}
    with pytest.raises(TypeError, match=f"unknown option '{name}': .* padding_mode"):
        warp(image, family, family.identity, **options)


# what the transform and the parameters may be


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (Affine, r"got the class Affine: make one, Affine\(\)"),
        ("affine", r"such as Affine\(\) .* got 'affine'"),
        (None, "got None"),
    ],
)
def test_a_transform_that_is_no_family(transform, message):
    for antialias in (False, True):
        with pytest.raises(TypeError, match=f"transform must be a family .*{message}"):
            warp(jnp.ones((4, 5, 1)), transform, jnp.zeros(6), antialias=antialias)


@pytest.mark.parametrize("batch", [(), (5,), (2, 5)], ids=str)
def test_the_remedy_for_matrices_as_parameters_is_code_that_runs(rng, batch):
    image = jnp.ones((4, 5, 1))
    params = jnp.asarray(rng.normal(size=(*batch, 2, 3)), jnp.float32)
    with pytest.raises(
        ValueError, match=r"params must be flat, \(\*batch, 6\)"
    ) as info:
        warp(image, Affine(), params)
    message = str(info.value)
    assert ".reshape(*batch, 6)" in message
    remedy = re.search(r"here (params\.reshape\(.*\))", message)[1]
    flat = eval(remedy, {"params": params})
    chex.assert_trees_all_equal(flat, params.reshape(*batch, 6))
    assert warp(image, Affine(), flat).shape == (*batch, 4, 5, 1)


def test_the_remedy_for_homogeneous_matrices_is_code_that_runs():
    image, matrix = jnp.arange(20.0).reshape(4, 5, 1), jnp.eye(3)
    with pytest.raises(ValueError, match="Homogeneous matrices become param") as info:
        warp(image, Affine(), matrix)
    remedy = re.search(r"(Affine\(\S*\(matrix\))", str(info.value))[1]
    params = eval(remedy, {"Affine": Affine, "matrix": matrix})
    chex.assert_trees_all_close(warp(image, Affine(), params), image, atol=1e-5)


@pytest.mark.parametrize(
    ("family", "options"),
    [
        (Affine(), {}),
        (Attention(), {}),
        (Attention(), {"antialias": True, "outside": "fill"}),
    ],
    ids=str,
)
@pytest.mark.parametrize("batch", [(5,), (2, 5)], ids=str)
def test_the_remedy_for_several_boxes_of_each_image(family, options, batch):
    image = jnp.ones((2, 4, 5, 1))
    params = jnp.broadcast_to(family.identity, (*batch, family.num_params))
    with pytest.raises(ValueError, match=r"must broadcast; got \(2,\) of im") as info:
        warp(image, family, params, **options)
    assert "image[:, None]" in str(info.value)
    assert "fill_value" not in str(info.value)
    assert warp(image[:, None], family, params, **options).shape == (2, 5, 4, 5, 1)

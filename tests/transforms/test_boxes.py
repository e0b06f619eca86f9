"""Boxes in pixels to windows and back: slices are the oracle."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references
from gradients import check_derivatives

from stn_jax import warp
from stn_jax.transforms import Affine, Attention, from_boxes, tiles, to_boxes

pytestmark = pytest.mark.usefixtures("strict")
FREE = Attention(isotropic=False)
CORNERS = [False, True]


def at(image, y, x):
    """One point of an image, bilinearly, from its definition; in pixel centers."""
    height, width, _ = image.shape
    point = [references.normalized(i, n, False) for i, n in ((x, width), (y, height))]
    return references.bilinear_sample(image, np.array([[point]]), "border")[0, 0]


@pytest.mark.parametrize("align_corners", CORNERS)
def test_a_box_of_its_own_size_is_the_slice(rng, align_corners):
    size = (6, 8)
    image = rng.normal(size=(*size, 2)).astype(np.float32)
    for box in [(0, 0, 6, 8), (1, 2, 4, 7), (3, 0, 6, 1), (5, 3, 6, 8)]:
        y0, x0, y1, x1 = box
        params = from_boxes(FREE, box, size, align_corners=align_corners)
        own = (y1 - y0, x1 - x0)
        crop = warp(image, FREE, params, own, align_corners=align_corners)
        np.testing.assert_allclose(crop, image[y0:y1, x0:x1], atol=1e-5)
        nearest = warp(
            image, FREE, params, own, align_corners=align_corners, method="nearest"
        )
        np.testing.assert_array_equal(nearest, image[y0:y1, x0:x1])


@pytest.mark.parametrize("align_corners", CORNERS)
def test_volumes(rng, align_corners):
    size, family = (4, 5, 6), Attention(3, isotropic=False)
    volume = rng.normal(size=(*size, 1)).astype(np.float32)
    box = (1, 0, 2, 3, 4, 6)
    params = from_boxes(family, box, size, align_corners=align_corners)
    crop = warp(volume, family, params, (2, 4, 4), align_corners=align_corners)
    np.testing.assert_allclose(crop, volume[1:3, 0:4, 2:6], atol=1e-5)
    back = to_boxes(family, params, size, align_corners=align_corners)
    np.testing.assert_allclose(back, box, atol=1e-5)


def test_the_samples_of_roi_align(rng):
    """One sample at the center of each bin of the box, whose edges are continuous."""
    image, box, (h, w) = rng.normal(size=(7, 9, 1)), (1.3, 2.1, 5.6, 6.4), (3, 4)
    y0, x0, y1, x1 = box
    expected = [
        [
            at(
                image,
                y0 + (i + 0.5) * (y1 - y0) / h - 0.5,
                x0 + (j + 0.5) * (x1 - x0) / w - 0.5,
            )
            for j in range(w)
        ]
        for i in range(h)
    ]
    out = warp(image.astype(np.float32), FREE, from_boxes(FREE, box, (7, 9)), (h, w))
    np.testing.assert_allclose(out, np.array(expected), atol=1e-5)


def test_the_samples_of_crop_and_resize(rng):
    """TensorFlow's: the box's normalized corners are the outermost samples."""
    image, (h, w) = rng.normal(size=(7, 9, 1)), (3, 4)
    y1, x1, y2, x2 = 0.1, 0.2, 0.8, 0.7
    expected = [
        [
            at(
                image,
                y1 * 6 + i * (y2 - y1) * 6 / (h - 1),
                x1 * 8 + j * (x2 - x1) * 8 / (w - 1),
            )
            for j in range(w)
        ]
        for i in range(h)
    ]
    box = (y1 * 6, x1 * 8, y2 * 6 + 1, x2 * 8 + 1)
    params = from_boxes(FREE, box, (7, 9), align_corners=True)
    out = warp(image.astype(np.float32), FREE, params, (h, w), align_corners=True)
    np.testing.assert_allclose(out, np.array(expected), atol=1e-5)


@pytest.mark.parametrize("align_corners", CORNERS)
def test_an_isotropic_window_holds_the_box(rng, align_corners):
    """The smallest window of the image's proportions, with the same center."""
    size = (10, 20)
    corners = rng.uniform(0, 9, size=(20, 2, 2))
    boxes = np.concatenate([corners.min(1), corners.max(1) + 1], -1).astype(np.float32)
    params = from_boxes(Attention(), boxes, size, align_corners=align_corners)
    windows = to_boxes(Attention(), params, size, align_corners=align_corners)
    assert (windows[:, :2] <= boxes[:, :2] + 1e-4).all()
    assert (windows[:, 2:] >= boxes[:, 2:] - 1e-4).all()
    gaps = np.abs(windows - boxes)
    assert (
        np.minimum(gaps[:, 0], gaps[:, 1]) < 1e-4
    ).all()  # one pair of edges is common
    middle = lambda b: (b[:, :2] + b[:, 2:]) / 2  # noqa: E731
    np.testing.assert_allclose(middle(windows), middle(boxes), atol=1e-4)
    margin = 1 if align_corners else 0
    height, width = (windows[:, 2:] - windows[:, :2] - margin).T
    np.testing.assert_allclose(width / height, (20 - margin) / (10 - margin), rtol=1e-3)


@pytest.mark.parametrize("align_corners", CORNERS)
def test_there_and_back(rng, align_corners):
    boxes = rng.uniform(0, 30, size=(3, 2, 4)).astype(np.float32)  # some are mirrored
    options = {"align_corners": align_corners}
    run = jax.jit(lambda b: from_boxes(FREE, b, (20, 31), **options))
    params = run(boxes)
    assert params.shape == (3, 2, 4)
    back = to_boxes(FREE, params, (20, 31), **options)
    np.testing.assert_allclose(back, boxes, atol=1e-4)
    mapped = jax.vmap(run)(boxes)
    np.testing.assert_allclose(mapped, params, atol=1e-6)


def test_a_mirrored_box(rng):
    image = rng.normal(size=(4, 6, 1)).astype(np.float32)
    params = from_boxes(FREE, (0, 6, 4, 0), (4, 6))
    out = warp(image, FREE, params)
    np.testing.assert_allclose(out, image[:, ::-1], atol=1e-5)


def test_boxes_of_tiles():
    for scale, family in ((0.25, Attention()), (0.25, Attention(scale=0.25))):
        params = tiles(family, (4, 4), scale)
        expected = [
            (y, x, y + 8, x + 16)
            for y, x in itertools.product(range(0, 32, 8), range(0, 64, 16))
        ]
        np.testing.assert_allclose(to_boxes(family, params, (32, 64)), expected)


def test_an_axis_of_one_pixel(rng):
    for align_corners in CORNERS:
        params = from_boxes(FREE, (0, 1, 1, 3), (1, 4), align_corners=align_corners)
        assert jnp.isfinite(params).all()
        back = to_boxes(FREE, params, (1, 4), align_corners=align_corners)
        np.testing.assert_allclose(back, (0, 1, 1, 3), atol=1e-6)


def test_derivatives(x64, rng):
    """A box may be learnt, and a loss may be one of boxes."""
    image = rng.normal(size=(6, 8, 1))
    box = np.array([1.2, 2.3, 4.1, 6.6])
    check_derivatives(
        lambda box: warp(image, FREE, from_boxes(FREE, box, (6, 8)), (3, 3)), [box]
    )
    params = from_boxes(FREE, box, (6, 8))
    assert params.dtype == jnp.float64
    slope = jax.jacobian(lambda p: to_boxes(FREE, p, (6, 8)))(params)
    inverse = jax.jacobian(lambda b: from_boxes(FREE, b, (6, 8)))(box)
    np.testing.assert_allclose(slope @ inverse, np.eye(4), atol=1e-12)


def test_what_is_refused():
    boxes = jnp.zeros((3, 4))
    with pytest.raises(ValueError, match=r"scale of Attention.* is fixed. Use Att"):
        from_boxes(Attention(scale=0.5), boxes, (4, 4))
    for function in (from_boxes, to_boxes):
        with pytest.raises(TypeError, match="transform must be Attention"):
            function(Affine(), boxes, (4, 4))
        with pytest.raises(ValueError, match="size must be"):
            function(FREE, boxes, (4, 4, 4))
    with pytest.raises(ValueError, match=r"\(\*batch, 4\), \(y0, x0, y1, x1\), for"):
        from_boxes(FREE, jnp.zeros((3, 6)), (4, 4))
    with pytest.raises(ValueError, match=r"\(z0, y0, x0, z1, y1, x1\)"):
        from_boxes(Attention(3, isotropic=False), boxes, (4, 4, 4))
    with pytest.raises(ValueError, match="params must be flat"):
        to_boxes(FREE, jnp.zeros(3), (4, 4))

"""Windows that tile the image."""

import numpy as np
import pytest

from stn_jax import warp
from stn_jax.transforms import (
    Affine,
    Attention,
    Projective,
    Rigid,
    Similarity,
    ThinPlateSpline,
    Translation,
    tiles,
)

FAMILIES = (
    *(Attention(), Attention(scale=0.5), Attention(isotropic=False)),
    *(Similarity(), Affine(), Projective()),
)


def windows(image, family, counts, size, scale=None):
    return warp(image[None], family, tiles(family, counts, scale), size)


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_windows_of_half_the_size_are_the_quarters(rng, family):
    image = rng.uniform(size=(8, 12, 2)).astype(np.float32)
    found = windows(image, family, (2, 2), (4, 6))
    quarters = [image[y : y + 4, x : x + 6] for y in (0, 4) for x in (0, 6)]
    np.testing.assert_allclose(found, quarters, atol=1e-5)


def test_a_single_row_lies_in_the_middle(rng):
    image = rng.uniform(size=(8, 12, 1)).astype(np.float32)
    found = windows(image, Attention(scale=0.5), (1, 2), (4, 6))
    np.testing.assert_allclose(found, [image[2:6, :6], image[2:6, 6:]], atol=1e-5)


def test_more_windows_than_fit_side_by_side_overlap(rng):
    """Three of half the width: the second begins at a quarter."""
    image = rng.uniform(size=(8, 12, 1)).astype(np.float32)
    found = windows(image, Affine(), (1, 3), (4, 6), scale=0.5)
    expected = [image[2:6, x : x + 6] for x in (0, 3, 6)]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_volumes(rng):
    """Each window shows a quarter: the middle of the rows, half of the other axes."""
    image = rng.uniform(size=(4, 8, 8, 1)).astype(np.float32)
    found = windows(image, Affine(ndim=3), (2, 1, 2), (2, 4, 4))
    expected = [image[z : z + 2, 2:6, x : x + 4] for z in (0, 2) for x in (0, 4)]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("family", [Attention(), Affine(), Similarity()], ids=str)
def test_one_window_is_the_image(family):
    np.testing.assert_allclose(tiles(family, (1, 1))[0], family.identity, atol=1e-6)


@pytest.mark.parametrize(
    ("family", "counts", "scale", "message"),
    [
        (Translation(), (2, 2), None, "no windows of scale 0.5"),
        (Rigid(), (1, 2), 0.5, "no windows of scale 0.5"),
        (Attention(scale=0.5), (2, 2), 0.4, "no windows of scale 0.4"),
        (Affine(), (2, 2), 1.5, "at most 1, the whole image; got 1.5"),
        (Affine(), (2, 2), -1, "scale must be a positive number; got -1"),
        (Affine(), (0, 2), None, "one for each axis of the image, known .* got .0, 2"),
        (Affine(), (2,), None, "one for each axis of the image"),
        (Affine(ndim=3), (2, 2), None, "one for each axis of the image"),
    ],
)
def test_bad_arguments(family, counts, scale, message):
    with pytest.raises(ValueError, match=message):
        tiles(family, counts, scale)


def test_a_spline_has_no_windows():
    with pytest.raises(TypeError, match="must be a family of matrices; got ThinPlate"):
        tiles(ThinPlateSpline((4, 4)), (2, 2))

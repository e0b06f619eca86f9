"""Rigid and Similarity: directions, units, and rigidity in pixels."""

import jax.numpy as jnp
import numpy as np
import pytest
from families import points_for
from scipy.spatial.transform import Rotation

from stn_jax import affine_grid, from_pixel, to_pixels, warp
from stn_jax.transforms import Rigid, Similarity

pytestmark = pytest.mark.usefixtures("strict")


@pytest.mark.parametrize("length", [0.0, 1e-9, 1e-3, 0.05, 0.2, 1.0, 3.0, np.pi - 1e-6])
def test_rotations_in_three_dimensions_are_scipys(x64, rng, length):
    axis = rng.normal(size=3)
    vector = length * axis / np.linalg.norm(axis)
    params = np.concatenate([[0.7], vector, [0.1, 0.2, 0.3]])
    matrix = Similarity(3).matrix(params)
    expected = 0.7 * Rotation.from_rotvec(vector).as_matrix()
    np.testing.assert_allclose(matrix[:3, :3], expected, atol=1e-14)
    np.testing.assert_allclose(matrix[:, 3], [0.1, 0.2, 0.3, 1])
    np.testing.assert_allclose(Similarity(3).params(matrix), params, atol=1e-9)


def test_a_positive_angle_rotates_the_picture_counter_clockwise():
    """The pixel right of the center comes to lie above it."""
    image = jnp.zeros((3, 3, 1)).at[1, 2].set(1.0)
    out = warp(image, Rigid(), jnp.array([jnp.pi / 2, 0.0, 0.0]), method="nearest")
    np.testing.assert_array_equal(np.argwhere(out[..., 0]), [[0, 1]])


@pytest.mark.parametrize("family", [Rigid(), Similarity()], ids=str)
def test_the_aspect_keeps_a_rotation_rigid_in_pixels(x64, rng, family):
    """On an image of 4 x 6 distances between points, in pixels, stay."""
    family = type(family)(aspect=6 / 4)
    params = family.identity.at[-3].set(0.7)
    points = points_for(rng, family, dtype=float)
    half_size = np.array([[3.0, 2.0]])
    before = points * half_size
    after = np.asarray(family.apply(params, points)) * half_size
    distances = [np.linalg.norm(p[:, None] - p[None], axis=-1) for p in (before, after)]
    np.testing.assert_allclose(*distances, atol=1e-12)


def distances(points):
    """Between all pairs of points ``(N, n)``."""
    return np.linalg.norm(points[:, None] - points[None], axis=-1)


def sampled_pixels(theta, size, out_size):
    """The input's pixel coordinates at each pixel of the output, ``(N, 2)``."""
    grid = to_pixels(affine_grid(theta, out_size), size)
    return np.asarray(grid).reshape(-1, 2)


@pytest.mark.parametrize("family", [Rigid, Similarity])
def test_the_aspect_holds_for_outputs_of_the_inputs_aspect(x64, family):
    """Of twice the size all distances halve; of another aspect pixels are sheared."""
    size, family = (4, 6), family(aspect=6 / 4)
    theta = family.matrix(family.identity.at[-3].set(0.7))[:2]

    def ratios(out_size):
        pixels = np.argwhere(np.ones(out_size)).astype(float)
        found = distances(sampled_pixels(theta, size, out_size))
        apart = distances(pixels) + np.eye(len(pixels))
        return (found / apart)[distances(pixels) > 0]

    np.testing.assert_allclose(ratios((4, 6)), 1, rtol=1e-12)
    np.testing.assert_allclose(ratios((8, 12)), 1 / 2, rtol=1e-12)
    assert np.ptp(ratios((6, 6))) > 0.1


@pytest.mark.parametrize("align_corners", [False, True])
def test_a_rotation_in_pixels_for_an_output_of_another_aspect(x64, align_corners):
    """By `from_pixel`, as Rigid's docstring says: against a loop over the pixels."""
    size, out_size, angle = (4, 6), (7, 3), 0.7
    rotation = np.array(
        [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    )
    shift = np.array([2.5, 1.5]) - rotation @ [1.0, 3.0]  # center to center
    matrix = np.concatenate([rotation, shift[:, None]], axis=1)
    corners = {"align_corners": align_corners}
    theta = from_pixel(matrix, size, out_size, **corners)
    grid = to_pixels(affine_grid(theta, out_size, **corners), size, **corners)
    for y, x in np.ndindex(*out_size):
        expected = rotation @ [x, y] + shift
        np.testing.assert_allclose(grid[y, x], expected, atol=1e-12)

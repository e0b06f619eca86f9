"""`from_world`: SimpleITK's resampling, SciPy's, and the definition are the oracles."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT
from gradients import check_derivatives
from scipy import ndimage

from stn_jax import affine_grid, from_world, sample, to_pixel

pytestmark = pytest.mark.usefixtures("strict")
CORNERS = [False, True]
SIZES = {2: ((5, 7), (4, 6)), 3: ((4, 5, 7), (3, 6, 5))}


def affine_for(rng, n):
    """Steps from voxel to voxel, and the place of the first one."""
    affine = np.eye(n + 1)
    affine[:n, :n] = np.diag(rng.uniform(0.6, 2, size=n)) + 0.1 * rng.normal(
        size=(n, n)
    )
    affine[:n, n] = rng.normal(size=n)
    return affine


@pytest.mark.parametrize("align_corners", CORNERS)
@pytest.mark.parametrize("n", [2, 3])
def test_agrees_with_simpleitk(x64, n, align_corners):
    """See fixtures/make_itk_fixtures.py."""
    arrays = np.load(ROOT / "tests" / "fixtures" / "itk.npz")
    names = ("image", "out", "matrix", "input_affine", "output_affine")
    image, expected, matrix, start, end = (arrays[f"{n}/{name}"] for name in names)
    sizes, options = (image.shape, expected.shape), {"align_corners": align_corners}
    theta = from_world(matrix, start, end, *sizes, **options)
    assert theta.shape == (n, n + 1)
    # ITK's images end half a voxel from the outermost centers
    voxels = np.asarray(to_pixel(theta, *sizes, **options))
    indices = np.stack(np.indices(expected.shape)[::-1], -1)
    points = indices @ voxels[:, :n].T + voxels[:, n]
    options = {"outside": "fill", "fill_value": -3.0, "coordinates": "pixel"}
    out = sample(image[..., None], points, **options)
    np.testing.assert_allclose(out[..., 0], expected, atol=1e-10)


@pytest.mark.parametrize("align_corners", CORNERS)
@pytest.mark.parametrize("n", [2, 3])
def test_arrays_as_nibabel_loads_them(x64, rng, n, align_corners):
    """``image[i, j, k]`` is at ``affine @ (i, j, k, 1)``; SciPy takes such matrices."""
    size, output_size = SIZES[n]
    start, end, matrix = (affine_for(rng, n) for _ in range(3))
    image = rng.normal(size=size)
    expected = ndimage.affine_transform(
        image,
        np.linalg.solve(start, matrix @ end),
        output_shape=output_size,
        order=1,
        mode="grid-constant",
    )
    options: Any = {"align_corners": align_corners}
    theta = from_world(matrix, start, end, size, output_size, order="ij", **options)
    out = sample(
        image[..., None], affine_grid(theta, output_size, **options), **options
    )
    np.testing.assert_allclose(out[..., 0], expected, atol=1e-12)


def test_order_and_direction(x64, rng):
    size, output_size = SIZES[3]
    start, end, matrix = (affine_for(rng, 3) for _ in range(3))
    theta = from_world(matrix, start, end, size, output_size)
    flip = [2, 1, 0, 3]  # the columns in the order of the array's axes
    other = from_world(
        matrix, start[:, flip], end[:, flip], size, output_size, order="ij"
    )
    np.testing.assert_allclose(other, theta, atol=1e-12)
    inverse = np.linalg.inv(matrix)
    other = from_world(inverse, start, end, size, output_size, direction="forward")
    np.testing.assert_allclose(other, theta, atol=1e-12)
    other = from_world(matrix[:3], start[:3], end[:3], size, output_size)
    np.testing.assert_allclose(other, theta, atol=1e-12)


@pytest.mark.parametrize("n", [2, 3])
def test_spacings(x64, rng, n):
    """They are affines without an origin or a rotation."""
    size, output_size = SIZES[n]
    start, end = rng.uniform(0.5, 2, size=(2, n))
    matrix = affine_for(rng, n)
    full = [np.diag(np.append(x, 1)) for x in (start, end)]
    theta = from_world(matrix, start, end, size, output_size)
    expected = from_world(matrix, full[0], full[1], size, output_size)
    np.testing.assert_allclose(theta, expected, atol=1e-12)


def test_known_matrices_are_multiplied_in_float64(rng):
    """Far from the world's origin, in float32, as well as in float64."""
    spacing, far = np.array([0.01, 0.02, 0.03]), np.array([4e3, -7e3, 9e3])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = np.diag(spacing), far
    theta = from_world(np.eye(4), affine, affine, (8, 8, 8))
    assert theta.dtype == jnp.float32
    np.testing.assert_allclose(theta, np.eye(3, 4), atol=1e-6)


def test_batches_derivatives_and_tracing(x64, rng):
    size, output_size = SIZES[3]
    start = np.stack([affine_for(rng, 3) for _ in range(4)])[:, None]
    end = rng.uniform(0.5, 2, size=(3, 3))
    matrix = affine_for(rng, 3)
    theta = from_world(matrix, start, end, size, output_size)
    assert theta.shape == (4, 3, 3, 4)
    one = from_world(matrix, start[2, 0], end[1], size, output_size)
    np.testing.assert_allclose(theta[2, 1], one, atol=1e-12)
    traced = jax.jit(lambda m, s, e: from_world(m, s, e, size, output_size))(
        matrix, start, end
    )
    np.testing.assert_allclose(traced, theta, atol=1e-11)
    mapped = jax.vmap(lambda a: from_world(matrix, a, end[1], size, output_size))
    np.testing.assert_allclose(mapped(start[:, 0]), theta[:, 1], atol=1e-11)
    check_derivatives(
        lambda m, e: from_world(m, start[0, 0], e, size, output_size),
        [matrix[:3], end[0]],
    )
    half = from_world(
        matrix.astype(np.float32), np.ones(3, np.float32), np.array([1, 1, 2]), size
    )
    assert half.dtype == jnp.float32


def test_what_is_refused():
    eye, spacing, size = np.eye(4), np.ones(3), (4, 4, 4)
    with pytest.raises(ValueError, match=r"matrix must be .* images of 3 axes; got"):
        from_world(np.eye(3), spacing, spacing, size)
    with pytest.raises(ValueError, match=r"matrix must be"):
        from_world(spacing, spacing, spacing, size)
    with pytest.raises(ValueError, match=r"input_affine .*, or spacings \(\*batch, 3"):
        from_world(eye, np.ones(2), spacing, size)
    with pytest.raises(ValueError, match="output_affine must be"):
        from_world(eye, spacing, np.ones((4, 2)), size)
    with pytest.raises(ValueError, match="output_affine as spacings must be positive"):
        from_world(eye, spacing, np.eye(3), size)
    with pytest.raises(ValueError, match="input_affine must have an inverse"):
        from_world(eye, np.diag([1, 0, 1, 1]), spacing, size)
    with pytest.raises(ValueError, match="matrix must have an inverse"):
        from_world(np.zeros((3, 4)), spacing, spacing, size, direction="forward")
    moved = np.eye(4)
    moved[3, 0] = 7.0  # a translation in the wrong place
    with pytest.raises(ValueError, match=r"output_affine must have the last row \[0"):
        from_world(eye, spacing, moved, size)
    with pytest.raises(ValueError, match="leading axes must broadcast; got"):
        from_world(np.ones((2, 1, 1)) * eye, np.ones((3, 3)), spacing, size)
    for option in ("order", "direction"):
        asked: Any = {option: "zyx"}
        with pytest.raises(ValueError, match=f"{option} must be one of"):
            from_world(eye, spacing, spacing, size, **asked)
    with pytest.raises(TypeError, match="matrix must hold real numbers"):
        from_world(eye * 1j, spacing, spacing, size)

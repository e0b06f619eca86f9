"""Every function with and without jit, against its definition."""

import inspect

import chex
import jax.numpy as jnp
import numpy as np
import references
from absl.testing import parameterized
from scipy.interpolate import RBFInterpolator

import stn_jax

RNG = np.random.default_rng(7)
SIZE = (4, 6)
THETA = (np.eye(2, 3) + 0.3 * RNG.normal(size=(2, 3))).astype(np.float32)
IMAGE = RNG.normal(size=(5, 3, 2)).astype(np.float32)
GRID = RNG.uniform(-1.5, 1.5, size=(*SIZE, 2)).astype(np.float32)
POINTS = np.array([(x, y) for y in (-1, 0, 1) for x in (-1, 0, 1)], np.float32)
MOVED = POINTS + 0.2 * RNG.normal(size=POINTS.shape).astype(np.float32)


def spline():
    pixels = references.identity_grid(SIZE, False).reshape(-1, 2)
    interpolator = RBFInterpolator(POINTS, MOVED, kernel="thin_plate_spline", degree=1)
    return interpolator(pixels).reshape(*SIZE, 2)


CASES = {
    "affine_grid": (
        lambda theta: stn_jax.affine_grid(theta, SIZE),
        (THETA,),
        lambda: references.affine_grid(THETA, SIZE, False),
    ),
    "projective_grid": (
        lambda theta: stn_jax.projective_grid(theta, SIZE),
        (np.vstack([THETA, [[0.0, 0.0, 2.0]]]).astype(np.float32),),
        lambda: references.affine_grid(THETA / 2, SIZE, False),
    ),
    "basis_grid": (
        lambda theta: stn_jax.basis_grid(theta, GRID),
        (THETA[:, :2],),
        lambda: [[THETA[:, :2] @ terms for terms in row] for row in GRID],
    ),
    "flow_grid": (
        stn_jax.flow_grid,
        (GRID,),
        lambda: references.identity_grid(SIZE, False) + GRID * 2 / SIZE[::-1],
    ),
    "warp": (
        lambda image: stn_jax.warp(
            image, stn_jax.transforms.Affine(), THETA.reshape(-1)
        ),
        (IMAGE,),
        lambda: references.bilinear_sample(
            IMAGE, references.affine_grid(THETA, (5, 3), False)
        ),
    ),
    "invert_points": (
        lambda points: stn_jax.invert_points(
            stn_jax.transforms.Affine(), THETA.reshape(-1), points
        )[0],
        (MOVED,),
        lambda: (MOVED - THETA[:, 2]) @ np.linalg.inv(THETA[:, :2]).T,
    ),
    "tps_grid": (
        lambda points: stn_jax.tps_grid(points, SIZE),
        (MOVED,),
        spline,
    ),
    "bilinear_sample": (
        stn_jax.bilinear_sample,
        (IMAGE, GRID),
        lambda: references.bilinear_sample(IMAGE, GRID.astype(float)),
    ),
    "sample": (
        lambda image, grid: stn_jax.sample(image, grid, padding_mode="wrap"),
        (IMAGE, GRID),
        lambda: references.bilinear_sample(IMAGE, GRID.astype(float), "wrap"),
    ),
    "inside": (
        lambda grid: stn_jax.inside(grid, SIZE),
        (GRID,),
        lambda: np.abs(GRID).max(axis=-1) <= 1,
    ),
    "identity_grid": (
        lambda: stn_jax.identity_grid(SIZE),
        (),
        lambda: references.identity_grid(SIZE, False),
    ),
    "control_lattice": (lambda: stn_jax.control_lattice((3, 3)), (), lambda: POINTS),
    "to_pixels": (
        lambda grid: stn_jax.to_pixels(grid, (5, 3)),
        (GRID,),
        lambda: np.stack(
            [
                references.pixel(GRID[..., 0], 3, False),
                references.pixel(GRID[..., 1], 5, False),
            ],
            axis=-1,
        ),
    ),
    "to_normalized": (
        lambda grid: stn_jax.to_normalized(grid, (5, 3)),
        (GRID,),
        lambda: np.stack(
            [
                references.normalized(GRID[..., 0], 3, False),
                references.normalized(GRID[..., 1], 5, False),
            ],
            axis=-1,
        ),
    ),
}
HOMOGRAPHY = np.array([[1, 0.1, 0.2], [0, 0.9, 0.1], [0.2, 0.1, 1]])


def projected(theta, points):
    """Points under a homography, from its definition."""
    moved = np.concatenate([points, np.ones((len(points), 1))], axis=1) @ theta.T
    return (moved[:, :2] / moved[:, 2:]).astype(np.float32)


TURN = np.array([[0.0, -0.5, 0.1], [0.5, 0.0, 0.2]])
FULL_THETA = np.vstack([THETA, [[0.0, 0.0, 1.0]]])
TO_PIXELS = np.array([[1.5, 0, 1], [0, 2.5, 2], [0, 0, 1]])  # 5 rows, 3 columns

CASES |= {
    "fit_affine": (
        lambda target: stn_jax.fit_affine(target @ THETA[:, :2].T, target),
        (POINTS,),
        lambda: np.pad(THETA[:, :2], ((0, 0), (0, 1))),
    ),
    "fit_similarity": (
        stn_jax.fit_similarity,
        (projected(np.vstack([TURN, [[0, 0, 1]]]), POINTS), POINTS),
        lambda: TURN,
    ),
    "fit_projective": (
        stn_jax.fit_projective,
        (projected(HOMOGRAPHY, POINTS), POINTS),
        lambda: HOMOGRAPHY,
    ),
    "fit_tps": (
        lambda source: stn_jax.fit_tps(source, POINTS, lattice=(3, 3)),
        (MOVED,),
        lambda: MOVED,
    ),
    "fit_rank": (
        lambda target: stn_jax.fit_rank(target, target, family="affine"),
        (POINTS[:3],),  # on a line
        lambda: 4,
    ),
    "to_pixel": (
        lambda theta: stn_jax.to_pixel(theta, (5, 3)),
        (THETA,),
        lambda: (TO_PIXELS @ FULL_THETA @ np.linalg.inv(TO_PIXELS))[:2],
    ),
    "from_pixel": (
        lambda matrix: stn_jax.from_pixel(matrix, (5, 3)),
        (THETA,),
        lambda: (np.linalg.inv(TO_PIXELS) @ FULL_THETA @ TO_PIXELS)[:2],
    ),
    "from_world": (  # spacings of 2 in x: half the width of the output's axes
        lambda theta: stn_jax.from_world(theta, (2.0, 1.0), jnp.ones(2), (5, 3)),
        (THETA,),
        lambda: (
            np.linalg.inv(TO_PIXELS) @ np.diag([0.5, 1, 1]) @ FULL_THETA @ TO_PIXELS
        )[:2],
    ),
    "from_rotation": (  # 3 columns, 5 rows
        lambda angle: stn_jax.from_rotation(angle, (5, 3), zoom=0.5),
        (np.float32(0.4),),
        lambda: np.array(
            [
                [2 * np.cos(0.4), -2 * np.sin(0.4) * 5 / 3, 0],
                [2 * np.sin(0.4) * 3 / 5, 2 * np.cos(0.4), 0],
            ]
        ),
    ),
    "convert": (  # of edges to corners: 3 / 2 in x, 5 / 4 in y
        lambda theta: stn_jax.convert(theta, (5, 3), to_align_corners=True),
        (THETA,),
        lambda: THETA * np.array([[1, 1.5 * 0.8, 1.5], [1.25 / 1.5, 1, 1.25]]),
    ),
}


class FunctionsTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.named_parameters((name, name) for name in CASES)
    def test_agrees_with_its_definition(self, name):
        function, arguments, expected = CASES[name]
        out = self.variant(function)(*map(jnp.asarray, arguments))
        chex.assert_trees_all_close(out, np.asarray(expected(), out.dtype), atol=1e-5)

    def test_rotated_size(self):
        """It returns integers, so it has no variants."""
        assert stn_jax.rotated_size(np.pi / 2, SIZE) == SIZE[::-1]

    def test_no_function_is_left_out(self):
        functions = {
            name
            for name, value in vars(stn_jax).items()
            if inspect.isfunction(value) and not name.startswith("_")
        }
        assert functions == {*CASES, "rotated_size"}

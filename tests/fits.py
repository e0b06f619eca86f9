"""The fits that the tests of fitting/ run over, and their oracles."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from stn_jax import fit_affine, fit_projective, fit_similarity

FITS = {
    "affine": fit_affine,
    "similarity": fit_similarity,
    "projective": fit_projective,
}
FULL = {
    ("similarity", 2): 4,
    ("similarity", 3): 7,
    ("affine", 2): 6,
    ("affine", 3): 12,
    ("projective", 2): 8,
    ("projective", 3): 15,
}
each_fit = pytest.mark.parametrize("family", FITS)
both_dims = pytest.mark.parametrize("ndim", [2, 3])
volumes_slow = pytest.mark.parametrize(
    "ndim", [2, pytest.param(3, marks=pytest.mark.slow)]
)


def act(theta, points):
    n = points.shape[-1]
    full = np.eye(n + 1)
    full[: len(theta)] = theta
    moved = np.concatenate([points, np.ones((*points.shape[:-1], 1))], -1) @ full.T
    return moved[..., :-1] / moved[..., -1:]


def truth(rng, family, ndim):
    """Some transformation of the family, away from the identity."""
    if family == "similarity":
        turn = rng.normal(size=3)
        if ndim == 2:
            turn[:2] = 0
        rotation = Rotation.from_rotvec(turn).as_matrix()
        rotation = rotation[:ndim, :ndim]
        return np.concatenate([0.7 * rotation, rng.normal(size=(ndim, 1))], axis=1)
    theta = np.eye(ndim, ndim + 1) + 0.4 * rng.normal(size=(ndim, ndim + 1))
    if family == "projective":
        last = np.append(0.2 * rng.uniform(-1, 1, size=ndim), 1)
        theta = np.concatenate([theta, last[None]])
    return theta


def line(ndim, count):
    x = np.linspace(-0.8, 1, count)
    return np.stack([x, *[0.3 * x + 0.1] * (ndim - 1)], axis=1)

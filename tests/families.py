"""The families that the tests of transforms/ run over."""

from functools import partial

import numpy as np
import pytest

from stn_jax.transforms import (
    Affine,
    Attention,
    Chain,
    Displacement,
    Projective,
    Rigid,
    Similarity,
    ThinPlateSpline,
    Translation,
)

GROUPS = [
    Translation(),
    Translation(3),
    Attention(),
    Attention(3),
    Attention(isotropic=False),
    Attention(3, isotropic=False),
    Rigid(),
    Rigid(3),
    Rigid(aspect=1.5),
    Rigid(3, aspect=(1.5, 0.5)),
    Similarity(),
    Similarity(3),
    Similarity(aspect=0.75),
    Similarity(3, aspect=(0.75, 2.0)),
    Affine(),
    Affine(3),
    Projective(),
    Projective(3),
]
SPLINES = [ThinPlateSpline(), ThinPlateSpline((2, 5)), ThinPlateSpline((2, 3, 2))]
FIELDS = [
    Displacement((3, 2)),
    Displacement((2, 3), align_corners=True),
    Displacement((2, 1, 3)),
]
CHAINS = [
    Chain(Affine(), Rigid()),
    Chain(Projective(3), Translation(3), Similarity(3)),
    Chain(ThinPlateSpline((3, 3)), Attention(scale=0.5)),
]
FAMILIES = [
    *GROUPS,
    Attention(scale=0.5),
    Attention(3, scale=0.5),
    *SPLINES,
    *FIELDS,
    *CHAINS,
]
WITH_IDENTITY = [*GROUPS, *SPLINES, *FIELDS, *CHAINS[:2]]
OPTIONS = [
    Rigid(aspect=1.5),
    Similarity(aspect=0.75),
    ThinPlateSpline((2, 5)),
    Displacement((2, 3), align_corners=True),
]
BATCHES = [(), (1,), (3, 2)]


def with_slow_marks(families):
    """Mark as slow most families of volumes, and those that differ by an option."""
    quick = [f for f in families if f.ndim == 2 and f not in OPTIONS] + [Affine(3)]
    slow = partial(pytest.param, marks=pytest.mark.slow)
    return [f if f in quick else slow(f) for f in families]


def each_of(families):
    """Parametrize a test over families, some of them slow."""
    return pytest.mark.parametrize("family", with_slow_marks(families), ids=str)


def size_for(family):
    return (2, 3, 4) if family.ndim == 3 else (5, 3)


def draw(rng, family, batch=(), dtype=np.float32):
    """Parameters near the identity, all different."""
    noise = rng.uniform(-0.15, 0.15, size=(*batch, family.num_params))
    return (np.asarray(family.identity) + noise).astype(dtype)


def points_for(rng, family, batch=(), dtype=np.float32):
    return rng.uniform(-1, 1, size=(*batch, 7, family.ndim)).astype(dtype)

"""XLA's flag for determinism: the same bits each time, and the right gradients.

On a GPU, sums over the points depend on the order of the threads without it.
"""

import hashlib
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references
from conftest import ROOT

from stn_jax import bilinear_sample

FLAG = "xla_gpu_deterministic_ops"

# many points on few pixels; theta's gradients are sums over all points
RUN = """
import hashlib, jax, jax.numpy as jnp, numpy as np
from stn_jax import warp
from stn_jax.transforms import Affine

rng = np.random.default_rng(0)
image = rng.normal(size=(3, 6, 5, 4)).astype(np.float32)
theta = rng.normal(size=(3, 6)).astype(np.float32)

@jax.jit
def gradients(image, theta):
    def loss(image, theta):
        return jnp.sin(warp(image, Affine(), theta, (20, 30))).sum()
    return jax.grad(loss, (0, 1))(image, theta)

arrays = [np.asarray(x) for x in gradients(image, theta)]
assert all(np.abs(x).sum() > 0 for x in arrays)
print(hashlib.sha256(b"".join(x.tobytes() for x in arrays)).hexdigest())
"""


def test_two_runs_give_the_same_bits():
    flags = f"{os.environ.get('XLA_FLAGS', '')} --{FLAG}=true"
    settings = {
        "XLA_FLAGS": flags,
        "JAX_ENABLE_COMPILATION_CACHE": "false",  # each run compiles
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # both run at a time
    }
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", RUN],
            cwd=ROOT,
            env={**os.environ, **settings},
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    digests = [run.communicate()[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert len(digests[0].strip()) == hashlib.sha256().digest_size * 2
    assert digests[0] == digests[1]


@pytest.mark.parametrize(
    ("images", "size"), [((2,), (4, 5)), ((), (4, 5)), ((2,), (3, 2, 4))]
)
def test_deterministic_gradients_are_right(rng, images, size):
    """Of an image for each grid, of one image for all, and of volumes.

    XLA's deterministic scatters are other programs than its ordinary ones.
    """
    out_size = (9, 8, 3)[: len(size)]
    image = rng.normal(size=(*images, *size, 3)).astype(np.float32)
    grid = rng.uniform(-1.2, 1.2, size=(2, *out_size, len(size))).astype(np.float32)
    bar = rng.normal(size=(2, *out_size, 3)).astype(np.float32)

    def gradients(image, grid, bar):
        return jax.vjp(bilinear_sample, image, grid)[1](bar)

    lowered = jax.jit(gradients).lower(image, grid, bar)
    program = lowered.compile({FLAG: True})
    arrays = [jnp.asarray(x) for x in (image, grid, bar)]
    first, *others = [
        [np.asarray(x).tobytes() for x in program(*arrays)] for _ in range(5)
    ]
    assert all(other == first for other in others)
    image_bar, grid_bar = program(*arrays)
    every_image = np.broadcast_to(image, (2, *size, 3)).astype(float)
    exact = every_image, grid.astype(float), bar.astype(float)
    each = [references.bilinear_gradients(*one) for one in zip(*exact, strict=True)]
    expected = np.stack([image_bar for image_bar, _ in each])
    if not images:
        expected = expected.sum(axis=0)
    np.testing.assert_allclose(image_bar, expected, atol=1e-4)
    expected = np.stack([grid_bar for _, grid_bar in each])
    np.testing.assert_allclose(grid_bar, expected, atol=1e-4)

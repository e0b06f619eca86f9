"""The whole test set, exactly: every image once, none dropped."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from .data import Dataset
from .distortions import distort

TEST_KEY = 2015  # the test set's distortions are the same in every run


def distorted_test_images(data: Dataset, distortion: str) -> jax.Array:
    """The test images, distorted once, from a fixed key: ``(N, H, W, C)`` floats."""
    images = jnp.asarray(data.test_images)
    return jax.jit(distort, static_argnums=0)(
        distortion, jax.random.key(TEST_KEY), images
    )


def predict(
    graphdef: nnx.GraphDef, state: nnx.State, images: jax.Array, batch_size: int = 500
) -> np.ndarray:
    """The predicted classes of images ``(N, H, W, C)``: ``(N,)``.

    The last batch is filled up with zeros, and its surplus predictions cut off.
    """
    predictions = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        fill = batch_size - len(batch)
        batch = jnp.pad(batch, [(0, fill)] + [(0, 0)] * (batch.ndim - 1))
        predictions.append(_predict(graphdef, state, batch))
    return np.concatenate(predictions)[: len(images)]


@partial(jax.jit, static_argnums=0)
def _predict(graphdef: nnx.GraphDef, state: nnx.State, images: jax.Array) -> jax.Array:
    return nnx.merge(graphdef, state)(images).argmax(axis=-1)

"""The whole test set, exactly: every image once, none dropped."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from .configs import Task
from .data import Dataset
from .tasks import Examples, examples

TEST_KEY = 2015  # the test set's distortions are the same in every run
CHUNK = 500


def test_examples(data: Dataset, task: Task) -> tuple[np.ndarray, np.ndarray]:
    """The test images as the task's, made once, from a fixed key: ``(N, *canvas, C)``,
    floats, with their labels ``(N,)``.

    They are kept on the host, and once: 10,000 volumes of 60x60x60 take 8 GiB.
    """
    make = jax.jit(examples, static_argnums=0)
    key = jax.random.key(TEST_KEY)
    count = len(data.test_labels)

    def part(own: slice) -> Examples:
        part_key = jax.random.fold_in(key, own.start)
        return make(task, part_key, data.test_images[own], data.test_labels[own])

    images, labels = (
        np.empty((count, *like.shape[1:]), like.dtype)
        for like in jax.eval_shape(lambda: part(slice(0, CHUNK)))
    )
    for start in range(0, count, CHUNK):
        own = slice(start, start + CHUNK)
        images[own], labels[own] = part(own)
    return images, labels


def predict(
    graphdef: nnx.GraphDef,
    states: nnx.State,
    images: jax.Array | np.ndarray,
    batch_size: int = CHUNK,
) -> np.ndarray:
    """The classes that ``S`` models side by side, their states stacked, predict of
    images ``(N, *size, C)``: ``(S, N)``.

    The last batch is filled up with zeros, and its surplus predictions cut off.
    """
    predictions = []
    for start in range(0, len(images), batch_size):
        batch = jnp.asarray(images[start : start + batch_size])
        fill = batch_size - len(batch)
        batch = jnp.pad(batch, [(0, fill)] + [(0, 0)] * (batch.ndim - 1))
        predictions.append(_predict(graphdef, states, batch))
    return np.concatenate(predictions, axis=1)[:, : len(images)]


@partial(jax.jit, static_argnums=0)
def _predict(graphdef: nnx.GraphDef, states: nnx.State, images: jax.Array) -> jax.Array:
    def one(state: nnx.State) -> jax.Array:
        return nnx.merge(graphdef, state)(images).argmax(axis=-1)

    return jax.vmap(one)(states)

"""Evaluation on a whole part of a dataset: every image once, none dropped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from .configs import Task
from .data import Split
from .devices import BATCH, BY_SEED, SEED, on_each, put, to_host
from .objective import is_wrong
from .share import WHOLE
from .tasks import TASKS, Examples, as_floats, examples

# the distortions of these parts are the same in every run
TEST_KEY, VALIDATION_KEY = 2015, 1506
CHUNK = 500  # images that are distorted with one key; most that a model takes at once
LARGEST = 2**22  # numbers in the images that a model takes at once
AS_THEY_ARE: tuple[Task, ...] = ("plain", "crops")  # tasks that change no pixel


def fixed_examples(
    split: Split, task: Task, seed: int = TEST_KEY
) -> tuple[np.ndarray, np.ndarray]:
    """Distort a split's images with a fixed key; return them with their labels.

    The images ``(N, *canvas, C)`` are stored once, on the host: 10,000 volumes of
    60x60x60 voxels take 8 GiB. They are floats, or views of the split's bytes if the
    task leaves these as they are.
    """
    if task in AS_THEY_ARE:
        as_they_are = TASKS[task](jax.random.key(seed), *split, WHOLE)
        return as_they_are  # pyright: ignore[reportReturnType] # views of the arrays
    make = jax.jit(examples, static_argnums=0)
    key = jax.random.key(seed)
    count = len(split.labels)

    def part(at: slice) -> Examples:
        part_key = jax.random.fold_in(key, at.start)
        return make(task, part_key, split.images[at], split.labels[at])

    images, labels = (
        np.empty((count, *like.shape[1:]), like.dtype)
        for like in jax.eval_shape(lambda: part(slice(0, CHUNK)))
    )
    for start in range(0, count, CHUNK):
        at = slice(start, start + CHUNK)
        images[at], labels[at] = part(at)
    return images, labels


def predict(
    graphdef: nnx.GraphDef,
    states: nnx.State,
    images: jax.Array | np.ndarray,
    batch_size: int | None = None,
    mesh: Mesh | None = None,
) -> np.ndarray:
    """Predict the classes ``(S, N)`` or ``(S, N, places)`` of ``(N, *size, C)``.

    The states of the ``S`` models are stacked. The last batch is padded with zeros;
    the predictions for the padding are dropped. By default a batch has as many images
    as :func:`images_per_call` says. On a mesh, where the states lie by their seeds, the
    devices divide each batch.
    """
    size = batch_size or images_per_call(images.shape[1:])
    size *= mesh.shape[BATCH] if mesh else 1
    predictions = []
    for start in range(0, len(images), size):
        batch = np.asarray(images[start : start + size])
        fill = size - len(batch)
        batch = np.pad(batch, [(0, fill)] + [(0, 0)] * (batch.ndim - 1))
        batch = put(mesh, P(BATCH), batch) if mesh else batch
        found = _predict(graphdef, mesh, states, batch)
        predictions.append(to_host(mesh, found) if mesh else found)
    return np.concatenate(predictions, axis=1)[:, : len(images)]


def images_per_call(shape: Sequence[int]) -> int:
    """How many images of this shape a model takes at once: of large ones fewer.

    The features of a large network take many times the memory of its images.
    """
    return max(min(CHUNK, LARGEST // math.prod(shape)), 1)


def percent_wrong(predictions: np.ndarray, labels: np.ndarray) -> float:
    """The percentage of misclassified images, to 4 decimals."""
    return round(100 * int(is_wrong(predictions, labels).sum()) / len(labels), 4)


@partial(jax.jit, static_argnums=(0, 1))
def _predict(
    graphdef: nnx.GraphDef, mesh: Mesh | None, states: nnx.State, images: jax.Array
) -> jax.Array:
    def one(state: nnx.State, images: jax.Array) -> jax.Array:
        return nnx.merge(graphdef, state)(as_floats(images)).argmax(axis=-1)

    of_seeds = jax.vmap(one, in_axes=(0, None))
    if mesh:
        given, returned = (BY_SEED, P(BATCH)), P(SEED, BATCH)
        of_seeds = on_each(mesh, of_seeds, given, returned)
    return of_seeds(states, images)

"""From clean digits to what a model sees, and what it should say."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from . import distortions
from .configs import Task

Examples = tuple[jax.Array, jax.Array]


def examples(
    task: Task, key: jax.Array, images: jax.Array, labels: jax.Array
) -> Examples:
    """A batch of digits ``(B, H, W, C)``, bytes or floats, as the task's.

    Returns:
      Images on their canvases ``(B, *canvas, C)``, floats, and their labels ``(B,)``.
    """
    return TASKS[task](key, as_floats(images), labels)


def training_examples(
    task: Task, elastic: float, key: jax.Array, images: jax.Array, labels: jax.Array
) -> Examples:
    """The same of digits that are first warped by a spline of so many pixels."""
    if elastic:
        warped = partial(distortions.elastic, scales=(1.0, 1.0), pixels=elastic)
        own = jax.random.fold_in(key, 0)
        images, labels = each(warped)(own, as_floats(images), labels)
    return examples(task, key, images, labels)


def as_floats(images: ArrayLike) -> jax.Array:
    """Bytes as floats in [0, 1]; floats as they are."""
    images = jnp.asarray(images)
    return images.astype(jnp.float32) / 255 if images.dtype == jnp.uint8 else images


def count_classes(task: Task, digits: int) -> int:
    """Of the task, where there are so many classes of digits."""
    return 2 * digits - 1 if task == "addition" else digits


def each(distortion: Callable[..., jax.Array]) -> Callable[..., Examples]:
    """Every image distorted on its own."""

    def task(key: jax.Array, images: jax.Array, labels: jax.Array) -> Examples:
        return jax.vmap(distortion)(jax.random.split(key, len(images)), images), labels

    return task


def plain(key: jax.Array, images: jax.Array, labels: jax.Array) -> Examples:
    """The images as they are."""
    return images, labels


def tutorial(key: jax.Array, images: jax.Array, labels: jax.Array) -> Examples:
    """The images as they are, less MNIST's mean, over its standard deviation."""
    return (images - 0.1307) / 0.3081, labels


def among_others(distortion: Callable[..., jax.Array]) -> Callable[..., Examples]:
    """Every image distorted among pieces of others of the batch."""

    def task(key: jax.Array, images: jax.Array, labels: jax.Array) -> Examples:
        keys = jax.random.split(key, len(images))
        return jax.vmap(distortion, (0, 0, None))(keys, images, images), labels

    return task


def addition(key: jax.Array, images: jax.Array, labels: jax.Array) -> Examples:
    """Each digit and another of the batch, both RTS, in channels of their own; the sum
    of the two (appendix A.1).
    """
    keys = jax.random.split(key, 3)
    order = jax.random.permutation(keys[0], len(images))
    distort = each(distortions.rotated_scaled_translated)
    first, a = distort(keys[1], images, labels)
    second, b = distort(keys[2], images[order], labels[order])
    return jnp.concatenate([first, second], axis=-1), a + b


TASKS: dict[Task, Callable[..., Examples]] = {
    "plain": plain,
    "tutorial": tutorial,
    "patch": among_others(distortions.in_a_patch),
    "r": each(distortions.rotated),
    "rts": each(distortions.rotated_scaled_translated),
    "p": each(distortions.in_perspective),
    "pxy": each(partial(distortions.in_perspective, each_way=True)),
    "e": each(distortions.elastic),
    "tc": among_others(distortions.cluttered),
    "addition": addition,
    "3d30": each(partial(distortions.extruded, edge=30)),
    "3d60": each(partial(distortions.extruded, edge=60)),
}

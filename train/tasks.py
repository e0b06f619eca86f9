"""Tasks: how clean digits become a model's input and its expected output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from . import distortions
from .configs import Task
from .data.arrays import NONE
from .house_numbers import house_numbers
from .parts import parts
from .share import WHOLE, Share

Examples = tuple[jax.Array, jax.Array]


def examples(
    task: Task,
    key: jax.Array,
    images: jax.Array,
    labels: jax.Array,
    share: Share = WHOLE,
) -> Examples:
    """Make a task's examples of digits ``(B, H, W, C)``, bytes or floats.

    The digits are those of a share of a batch; the key is the batch's.

    Returns:
      Images on their canvases ``(B, *canvas, C)``, floats, and their labels, ``(B,)``
      or, of house numbers, ``(B, 5)``.
    """
    return TASKS[task](key, as_floats(images), labels, share)


def training_examples(
    task: Task,
    elastic: float,
    key: jax.Array,
    images: jax.Array,
    labels: jax.Array,
    share: Share = WHOLE,
) -> Examples:
    """Make examples for training, where the task itself may add variation.

    With ``elastic`` the digits are first warped by a random thin plate spline; the
    displacements of its control points are Gaussian, sigma = ``elastic`` pixels.
    """
    if elastic:
        warp = partial(distortions.elastic, scales=(1.0, 1.0), pixels=elastic)
        warp_key = jax.random.fold_in(key, 0)
        images, labels = each(warp)(warp_key, as_floats(images), labels, share)
    if task == "crops":
        return random_crops(key, as_floats(images), labels, share)
    return examples(task, key, images, labels, share)


def as_floats(images: ArrayLike) -> jax.Array:
    """Convert bytes to floats in [0, 1]; floats are returned unchanged."""
    images = jnp.asarray(images)
    return images.astype(jnp.float32) / 255 if images.dtype == jnp.uint8 else images


def class_names(task: Task, classes: Sequence[str]) -> tuple[str, ...]:
    """The names of a task's classes, given those of the images."""
    if task == "addition":
        return tuple(map(str, range(2 * len(classes) - 1)))
    if task in ("numbers64", "numbers128"):
        return (NONE, *classes)
    if task == "parts":
        return tuple(f"{head}{body}" for head in classes for body in classes)
    return tuple(classes)


def normalization(task: Task) -> tuple[float, float]:
    """The mean and the deviation by which a task standardizes its images in [0, 1]."""
    return (0.1307, 0.3081) if task == "tutorial" else (0.0, 1.0)


def each(distortion: Callable[..., jax.Array]) -> Callable[..., Examples]:
    """A task that distorts every image with a key of its own."""

    def task(
        key: jax.Array, images: jax.Array, labels: jax.Array, share: Share
    ) -> Examples:
        keys = share.keys(key, len(images))
        return jax.vmap(distortion)(keys, images), labels

    return task


def plain(
    key: jax.Array, images: jax.Array, labels: jax.Array, share: Share
) -> Examples:
    """The undistorted images."""
    return images, labels


def standardized(
    key: jax.Array, images: jax.Array, labels: jax.Array, share: Share
) -> Examples:
    """The undistorted images, standardized with MNIST's mean and deviation."""
    mean, std = normalization("tutorial")
    return (images - mean) / std, labels


def among_others(distortion: Callable[..., jax.Array]) -> Callable[..., Examples]:
    """A task that distorts every image, with distractors cut from the whole batch."""

    def task(
        key: jax.Array, images: jax.Array, labels: jax.Array, share: Share
    ) -> Examples:
        keys, others = share.keys(key, len(images)), share.whole(images)
        return jax.vmap(distortion, (0, 0, None))(keys, images, others), labels

    return task


def addition(
    key: jax.Array, images: jax.Array, labels: jax.Array, share: Share
) -> Examples:
    """Two digits of the batch, each distorted as in RTS, in two channels (A.1).

    The label is the sum of the two.
    """
    keys = jax.random.split(key, 3)
    others, of_others = share.whole(images), share.whole(labels)
    order = share.of(jax.random.permutation(keys[0], len(others)))
    distort = each(distortions.rotated_scaled_translated)
    first, a = distort(keys[1], images, labels, share)
    second, b = distort(keys[2], others[order], of_others[order], share)
    return jnp.concatenate([first, second], axis=-1), a + b


def middles(
    key: jax.Array, images: jax.Array, labels: jax.Array, share: Share
) -> Examples:
    """The middle of each image, 7/8 of its height and width (appendix A.6)."""
    height, width = crop_size(images)
    y, x = (images.shape[1] - height) // 2, (images.shape[2] - width) // 2
    return images[:, y : y + height, x : x + width], labels


def random_crops(
    key: jax.Array, images: jax.Array, labels: jax.Array, share: Share
) -> Examples:
    """7/8 of each image's height and width, at a random place; half are mirrored."""
    size = crop_size(images)
    crop = partial(distortions.cropped, size=size)
    return each(crop)(key, images, labels, share)


def crop_size(images: jax.Array) -> tuple[int, int]:
    """Height and width of the crops of images ``(B, H, W, C)``: 224 of 256."""
    return images.shape[1] * 7 // 8, images.shape[2] * 7 // 8


TASKS: dict[Task, Callable[..., Examples]] = {
    "plain": plain,
    "crops": middles,
    "tutorial": standardized,
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
    "numbers64": partial(house_numbers, side=64),
    "numbers128": partial(house_numbers, side=128),
    "parts": parts,
}

"""Digits at random places on a larger canvas, and how well they were found."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..distortions import clutter, paste

PATCH, CANVAS = 28, 84


class Scenes(NamedTuple):
    """Images of a digit each, and the digits' places."""

    images: jax.Array
    """``(N, 84, 84, 1)``."""
    corners: jax.Array
    """The digits' upper left corners, (x, y) in pixels, ``(N, 2)``."""


def scene(
    key: jax.Array, digit: jax.Array, others: jax.Array, distractors: int
) -> Scenes:
    """Place a digit ``(28, 28, 1)`` on a canvas, with distractors cut from others."""
    place_key, clutter_key = jax.random.split(key)
    room = np.array([CANVAS - n + 1 for n in digit.shape[:2]])
    y, x = jax.random.randint(place_key, (2,), 0, room)
    canvas = paste(jnp.zeros((CANVAS, CANVAS, 1)), digit, y, x)
    if distractors:
        canvas = clutter(clutter_key, canvas, others, distractors)
    return Scenes(canvas, jnp.array([x, y]))


def intersection_over_union(params: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """The overlap ``(N,)`` of the patches (s, tx, ty) with the digits' squares."""
    side = np.abs(params[:, :1]) * CANVAS
    low = (params[:, 1:] + 1) * CANVAS / 2 - side / 2
    common = np.minimum(low + side, corners + PATCH) - np.maximum(low, corners)
    intersection = common.clip(0).prod(axis=1)
    return intersection / (side[:, 0] ** 2 + PATCH**2 - intersection)

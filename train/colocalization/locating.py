"""Locate the digit of one class: train several times and keep the best."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ..configs import Colocalization
from ..data import Dataset
from ..distortions import blurred
from ..tasks import as_floats
from .networks import Encoder, Patch, patch_transformer
from .objective import learn
from .scenes import Scenes, intersection_over_union, scene

BLUR = (6.0, 4.0, 2.0, 1.0, 0.0, 0.0)  # pixels; blur gives distant digits a gradient


class Located(NamedTuple):
    """The images of one class, and the patches that a transformer found in them."""

    digit: int
    distractors: int
    """In each image."""
    scenes: Scenes
    params: np.ndarray
    """The patches' (s, tx, ty), ``(N, 3)``."""
    overlap: np.ndarray
    """Intersection over union of the patches and the digits' squares, ``(N,)``."""
    loss: float
    """At the end of the training."""
    entropy: float
    """Mean entropy of the encoder's classification of the patches, in nats."""

    @property
    def correct(self) -> float:
        """Percentage of the images whose overlap is more than a half."""
        return 100 * float(np.mean(self.overlap > 0.5))


def locate(
    config: Colocalization,
    data: Dataset,
    encoders: Sequence[Encoder],
    digit: int,
    distractors: int,
) -> Located:
    """Train a transformer with each encoder; keep that of the lowest mean entropy.

    Encoders differ in what they find similar. A patch beside the digit looks like no
    class or like several, so that its classification has a high entropy.
    """
    key = jax.random.fold_in(jax.random.key(config.seed), 100 * distractors + digit)
    scene_key, key = jax.random.split(key)
    of_class = np.flatnonzero(data.train.labels == digit)[: config.images]
    digits, others = (as_floats(data.train.images[i]) for i in (of_class, slice(2000)))
    scenes = jax.vmap(partial(scene, distractors=distractors), (0, 0, None))(
        jax.random.split(scene_key, len(of_class)), digits, others
    )
    focused = jnp.stack(
        [jax.vmap(partial(blurred, width=width))(scenes.images) for width in BLUR]
    )
    ends = []
    for start, encoder in enumerate(encoders):
        graphdef, params = nnx.split(patch_transformer(config, start))
        start_key = jax.random.fold_in(key, start)
        params, loss = learn(
            config, graphdef, *nnx.split(encoder), focused, start_key, params
        )
        transformer = nnx.merge(graphdef, params)
        attention = Patch().attention(transformer.localize(scenes.images))
        attention = np.asarray(attention)
        overlap = intersection_over_union(attention, np.asarray(scenes.corners))
        classes = jax.nn.softmax(encoder.layers(transformer(scenes.images))[-1])
        entropy = jax.scipy.special.entr(classes).sum(axis=-1).mean()
        numbers = float(loss), float(entropy)
        ends.append(Located(digit, distractors, scenes, attention, overlap, *numbers))
    return min(ends, key=lambda end: end.entropy)

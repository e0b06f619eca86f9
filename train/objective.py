"""The loss, its metrics, and the optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from .configs import Config
from .schedules import DECAYS
from .transformers import TransformerOutput

Array = TypeVar("Array", jax.Array, np.ndarray)


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The mean negative log-likelihood of the labels, ``(B,)`` or ``(B, places)``.

    The classes of an image's places are independent, so their terms are added.
    """
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    terms = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return terms.mean() if terms.ndim == 1 else terms.sum(axis=-1).mean()


def is_wrong(predictions: Array, labels: Array) -> Array:
    """Which of the images ``(B,)`` are misclassified: in one place or in several."""
    wrong: Any = predictions != labels
    return wrong if wrong.ndim == 1 else wrong.any(axis=-1)


def error(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Percentage of misclassified images."""
    return 100 * jnp.mean(is_wrong(logits.argmax(axis=-1), labels))


def excess(outputs: Sequence[TransformerOutput]) -> jax.Array:
    """Mean square of the amount by which grid coordinates exceed [-1, 1].

    Outside the image the sampled pixels have no gradient, but this penalty has one.
    """
    beyond = [jnp.maximum(jnp.abs(output.grid) - 1, 0) for output in outputs]
    return sum((jnp.square(x).mean() for x in beyond), start=jnp.zeros(()))


def outside(outputs: Sequence[TransformerOutput]) -> jax.Array:
    """Percentage of the sampling points that lie outside the image."""
    shares = [jnp.mean((jnp.abs(output.grid) > 1).any(axis=-1)) for output in outputs]
    return 100 * sum(shares, start=jnp.zeros(())) / max(len(shares), 1)


def blank(outputs: Sequence[TransformerOutput]) -> jax.Array:
    """Percentage of the warped images whose values differ by less than 0.01."""
    warped = [output.warped.reshape(len(output.warped), -1) for output in outputs]
    shares = [jnp.mean(jnp.ptp(pixels, axis=1) < 0.01) for pixels in warped]
    return 100 * sum(shares, start=jnp.zeros(())) / max(len(shares), 1)


def make_optimizer(config: Config) -> optax.GradientTransformation:
    """The schedule's optimizer, with a separate learning rate for the transformers.

    Every pixel of the warped image adds to the gradient of the localization network,
    so it is large. With the classifier's learning rate the transformer can lose the
    digit permanently.
    """
    localization = _descent(config, config.localization_learning_rate)
    if config.clip is not None:
        clipped = optax.clip_by_global_norm(config.clip)
        localization = optax.chain(clipped, localization)
    optimizer = optax.multi_transform(
        {
            "classification": _descent(config, config.learning_rate),
            "localization": localization,
        },
        _optimizer_labels,
    )
    if config.on_nan == "skip":  # however many
        return optax.apply_if_finite(optimizer, max_consecutive_errors=config.steps)
    return optimizer


def _descent(config: Config, peak: float) -> optax.GradientTransformation:
    optimizer = _without_decay(config, peak)
    if not config.weight_decay:
        return optimizer
    decay = optax.add_decayed_weights(config.weight_decay, _weights)
    return optax.chain(decay, optimizer)


def _weights(params: Any) -> Any:
    """Which parameters are weights, not biases."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def _without_decay(config: Config, peak: float) -> optax.GradientTransformation:
    steps = config.steps
    if config.schedule == "tutorial":
        return optax.sgd(peak)
    if config.schedule in DECAYS:
        tenths = {
            max(a * steps // b, at): 0.1
            for at, (a, b) in enumerate(DECAYS[config.schedule], start=1)
        }
        schedule = optax.piecewise_constant_schedule(peak, tenths)
        return optax.sgd(schedule, momentum=0.9)
    warmup = max(steps // 20, 1)
    schedule = optax.warmup_cosine_decay_schedule(
        peak / warmup, peak, warmup_steps=warmup, decay_steps=steps + 1
    )
    return optax.adam(schedule)


def _optimizer_labels(params: object) -> object:
    """For each parameter, the name of its optimizer."""

    def label(path: tuple, leaf: jax.Array) -> str:
        inside = any("transformer" in str(entry) for entry in path)
        return "localization" if inside else "classification"

    return jax.tree_util.tree_map_with_path(label, params)

"""What is minimized, and how."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from .configs import Config


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The mean negative log-likelihood of the labels."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def error(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """How many of the images are misclassified, in percent."""
    return 100 * jnp.mean(logits.argmax(axis=-1) != labels)


def make_optimizer(config: Config) -> optax.GradientTransformation:
    """Adam, with a learning rate of its own for all that predicts theta.

    The gradients of the localization network are large, as every pixel of the sampled
    image adds to them: trained like the rest, it tends to lose the digit for good.
    """
    return optax.multi_transform(
        {
            "classification": optax.adam(_schedule(config, config.learning_rate)),
            "localization": optax.adam(
                _schedule(config, config.localization_learning_rate)
            ),
        },
        _label,
    )


def _schedule(config: Config, peak: float) -> optax.Schedule:
    """A warmup over 5% of the steps, then a cosine to zero."""
    warmup = max(config.steps // 20, 1)
    return optax.warmup_cosine_decay_schedule(
        peak / warmup, peak, warmup_steps=warmup, decay_steps=config.steps + 1
    )


def _label(params: object) -> object:
    """Which learning rate each parameter has: those of a transformer their own."""

    def label(path: tuple, leaf: jax.Array) -> str:
        inside = any("transformer" in str(entry) for entry in path)
        return "localization" if inside else "classification"

    return jax.tree_util.tree_map_with_path(label, params)

"""What is minimized, and how."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

from .configs import Config
from .models import Look


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The mean negative log-likelihood of the labels."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def error(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """How many of the images are misclassified, in percent."""
    return 100 * jnp.mean(logits.argmax(axis=-1) != labels)


def excess(looks: Sequence[Look]) -> jax.Array:
    """How far the grids reach beyond the image, squared, in the mean: a penalty with a
    gradient where the image's own is zero.
    """
    beyond = [jnp.maximum(jnp.abs(look.grid) - 1, 0) for look in looks]
    return sum((jnp.square(x).mean() for x in beyond), start=jnp.zeros(()))


def outside(looks: Sequence[Look]) -> jax.Array:
    """How much of the grids lies outside of the image, in percent."""
    shares = [jnp.mean((jnp.abs(look.grid) > 1).any(axis=-1)) for look in looks]
    return 100 * sum(shares, start=jnp.zeros(())) / max(len(shares), 1)


def blank(looks: Sequence[Look]) -> jax.Array:
    """In how many of the images a transformer sees nothing but one shade, in percent.

    One shade: all that it sees is within a hundredth.
    """
    shares = [
        jnp.mean(jnp.ptp(look.seen.reshape(len(look.seen), -1), axis=1) < 0.01)
        for look in looks
    ]
    return 100 * sum(shares, start=jnp.zeros(())) / max(len(shares), 1)


def make_optimizer(config: Config) -> optax.GradientTransformation:
    """The schedule's, with a learning rate of its own for all that predicts theta.

    The gradients of the localization network are large, as every pixel of the sampled
    image adds to them: trained like the rest, it tends to lose the digit for good.
    """
    localization = _descent(config, config.localization_learning_rate)
    if config.clip is not None:
        clipped = optax.clip_by_global_norm(config.clip)
        localization = optax.chain(clipped, localization)
    return optax.multi_transform(
        {
            "classification": _descent(config, config.learning_rate),
            "localization": localization,
        },
        _label,
    )


def _descent(config: Config, peak: float) -> optax.GradientTransformation:
    steps = config.steps
    if config.schedule == "tutorial":
        return optax.sgd(peak)
    if config.schedule == "paper":
        thirds = {max(steps // 3, 1): 0.1, max(2 * steps // 3, 2): 0.1}
        schedule = optax.piecewise_constant_schedule(peak, thirds)
        return optax.sgd(schedule, momentum=0.9)
    warmup = max(steps // 20, 1)
    schedule = optax.warmup_cosine_decay_schedule(
        peak / warmup, peak, warmup_steps=warmup, decay_steps=steps + 1
    )
    return optax.adam(schedule)


def _label(params: object) -> object:
    """Which learning rate each parameter has: those of a transformer their own."""

    def label(path: tuple, leaf: jax.Array) -> str:
        inside = any("transformer" in str(entry) for entry in path)
        return "localization" if inside else "classification"

    return jax.tree_util.tree_map_with_path(label, params)

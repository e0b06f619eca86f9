"""One step of a training, many in one program, and which images they take."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from .configs import Config
from .models import look
from .objective import blank, cross_entropy, error, excess, outside
from .tasks import training_examples

Metrics = dict[str, jax.Array]


def train_steps(
    graphdef: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    config: Config,
    params: nnx.State,
    opt_state: optax.OptState,
    key: jax.Array,
    first: int,
    last: int,
    chosen: jax.Array,
    images: jax.Array,
    labels: jax.Array,
) -> tuple[Any, optax.OptState, Metrics]:
    """The steps from ``first`` to before ``last``; returns the sums of their metrics.

    Row i of ``chosen``, ``(rows, batch_size)``, holds the indices of the batch of step
    ``first + i``.
    """
    step = partial(train_step, graphdef, optimizer, config)

    def arguments(at: jax.Array | int) -> tuple[jax.Array, ...]:
        batch = chosen[at - first]
        return jax.random.fold_in(key, at + 1), images[batch], labels[batch]

    def body(at: jax.Array, carry: tuple) -> tuple:
        params, opt_state, sums = carry
        params, opt_state, metrics = step(params, opt_state, *arguments(at))
        return params, opt_state, jax.tree.map(jnp.add, sums, metrics)

    metrics = jax.eval_shape(step, params, opt_state, *arguments(first))[2]
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), metrics)
    return jax.lax.fori_loop(first, last, body, (params, opt_state, zeros))


def train_step(
    graphdef: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    config: Config,
    params: nnx.State,
    opt_state: optax.OptState,
    key: jax.Array,
    images: jax.Array,
    labels: jax.Array,
) -> tuple[Any, optax.OptState, Metrics]:
    """One step: make the task's examples of the batch, predict, improve."""
    images, labels = training_examples(config.task, config.elastic, key, images, labels)

    def loss_fn(params: nnx.State) -> tuple[jax.Array, Metrics]:
        model = nnx.merge(graphdef, params)
        logits, looks = look(model, images, jax.random.fold_in(key, 1))
        loss = cross_entropy(logits, labels)
        metrics = {
            "loss": loss,
            "error": error(logits, labels),
            "outside": outside(looks),
            "blank": blank(looks),
        }
        if config.outside_penalty:
            loss += config.outside_penalty * excess(looks)
        return loss, metrics

    grads, metrics = jax.grad(loss_fn, has_aux=True)(params)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, metrics


def batch(n: int, size: int, seed: int, step: int) -> np.ndarray:
    """Indices ``(size,)`` for a step: one shuffled epoch after the other."""
    at = np.arange(step * size, (step + 1) * size)
    epochs, within = np.divmod(at, n)
    parts = [_epoch(n, seed, int(e))[within[epochs == e]] for e in np.unique(epochs)]
    return np.concatenate(parts)


@lru_cache(maxsize=16)
def _epoch(n: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(n).astype(np.int32)

"""One training step, many steps in one program, and the images that each step takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from .configs import Config
from .objective import blank, cross_entropy, error, excess, outside
from .share import WHOLE, Share
from .tasks import training_examples
from .transformers import logits_and_outputs

Metrics = dict[str, jax.Array]


class TrainState(NamedTuple):
    """The state of a training between two steps."""

    params: Any
    """The model's parameters, an ``nnx.State``."""
    opt_state: optax.OptState
    key: jax.Array
    """The training's key. A step derives its own from it and its number."""
    step: jax.Array
    """The number of steps taken."""


class Batch(NamedTuple):
    """Digits as they are in the data, before their distortion."""

    images: jax.Array
    """``(B, H, W, C)``, bytes or floats in [0, 1]."""
    labels: jax.Array
    """``(B,)``, or ``(B, places)`` of house numbers."""


def train_steps(
    graphdef: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    config: Config,
    state: TrainState,
    last: int | jax.Array,
    chosen: jax.Array,
    data: Batch,
    share: Share = WHOLE,
) -> tuple[TrainState, Metrics]:
    """Take the steps up to number ``last``; return the sums of their metrics.

    Row i of ``chosen``, ``(rows, batch_size)``, holds the indices in ``data`` of the
    i-th of these steps. With one row there is no loop: XLA's own convolutions are slow
    within one on a CPU. ``first_nonfinite`` among the sums is the number of the first
    step whose loss was NaN or infinite, or one that is larger than ``last``. Of several
    devices, each calls it with its share of the batches, and all with the same state.
    """
    first = state.step

    @jax.jit  # traced once, for the shapes of its metrics and for the loop
    def step(at: jax.Array, state: TrainState) -> tuple[TrainState, Metrics]:
        batch = Batch(*(x[chosen[at - first]] for x in data))
        return train_step(graphdef, optimizer, config, state, batch, share)

    def body(at: jax.Array, carry: tuple) -> tuple:
        state, sums, nonfinite = carry
        state, metrics = step(at, state)
        is_finite = jnp.isfinite(metrics["loss"])
        nonfinite = jnp.minimum(nonfinite, jnp.where(is_finite, last + 1, at + 1))
        return state, jax.tree.map(jnp.add, sums, metrics), nonfinite

    if chosen.shape[0] == 1:
        state, sums = step(first, state)
        is_finite, none = jnp.isfinite(sums["loss"]), jnp.iinfo(jnp.int32).max
        sums["first_nonfinite"] = jnp.where(is_finite, none, last)
        sums["params_are_finite"] = _all_finite(state.params)
        return state, sums
    _, metrics = jax.eval_shape(step, first, state)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), metrics)
    last = jnp.asarray(last, first.dtype)
    carry = (state, zeros, last + 1)
    state, sums, nonfinite = jax.lax.fori_loop(first, last, body, carry)
    sums["first_nonfinite"] = nonfinite
    sums["params_are_finite"] = _all_finite(state.params)
    return state, sums


def _all_finite(params: nnx.State) -> jax.Array:
    return jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(params)]).all()


def added(parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Add up what several calls of :func:`train_steps` have returned."""
    sums = {name: np.sum([part[name] for part in parts], axis=0) for name in parts[0]}
    sums["first_nonfinite"] = np.min([p["first_nonfinite"] for p in parts], axis=0)
    finite = [part["params_are_finite"] for part in parts]
    return sums | {"params_are_finite": np.all(finite, axis=0)}


def means(sums: dict[str, np.ndarray], count: int) -> dict[str, float]:
    """The means of metrics over ``count`` steps, without those that were skipped."""
    if "skipped" not in sums:
        return {name: float(total / count) for name, total in sums.items()}
    skipped = int(sums["skipped"])
    taken = count - skipped
    of = {name: float(x / taken) if taken else math.nan for name, x in sums.items()}
    return of | {"skipped": skipped}


def train_step(
    graphdef: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    config: Config,
    state: TrainState,
    batch: Batch,
    share: Share = WHOLE,
) -> tuple[TrainState, Metrics]:
    """Take one step: distort the batch, predict, and update the parameters.

    Gradients and metrics are the means over all shares of the batch.
    """
    key = jax.random.fold_in(state.key, state.step + 1)
    images, labels = training_examples(config.task, config.elastic, key, *batch, share)
    keys = share.keys(jax.random.fold_in(key, 1), len(images))  # for dropout

    def loss_fn(
        params: nnx.State, images: jax.Array, labels: jax.Array, keys: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        model = nnx.merge(graphdef, params)
        logits, outputs = logits_and_outputs(model, images, keys)
        loss = cross_entropy(logits, labels)
        metrics = {
            "loss": loss,
            "error": error(logits, labels),
            "outside": outside(outputs),
            "blank": blank(outputs),
        }
        if config.outside_penalty:
            loss += config.outside_penalty * excess(outputs)
        return loss, metrics

    gradient = partial(jax.grad(loss_fn, has_aux=True), state.params)
    found = in_parts(gradient, config.accumulate, images, labels, keys)
    grads, metrics = share.mean(found)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    if config.on_nan == "skip":
        metrics = _without_skipped(metrics, state.opt_state, opt_state)
    params = optax.apply_updates(state.params, updates)
    return TrainState(params, opt_state, state.key, state.step + 1), metrics


def in_parts(function: Callable[..., Any], count: int, *batch: jax.Array) -> Any:
    """The mean of a function of equal parts of a batch, one after the other.

    So it takes the memory of one part.
    """
    if count == 1:
        return function(*batch)
    parts = [x.reshape(count, -1, *x.shape[1:]) for x in batch]

    def add(sums: Any, part: list[jax.Array]) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, sums, function(*part)), None

    shapes = jax.eval_shape(function, *(x[0] for x in parts))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    sums, _ = jax.lax.scan(add, zeros, parts)
    return jax.tree.map(lambda x: x / count, sums)


def _without_skipped(
    metrics: Metrics, before: optax.OptState, after: optax.OptState
) -> Metrics:
    """Zero metrics of a step that the optimizer left out, and their number."""
    skipped = after.total_notfinite - before.total_notfinite  # pyright: ignore
    kept = {name: jnp.where(skipped, 0, x) for name, x in metrics.items()}
    return kept | {"skipped": skipped}


def batch_indices(n: int, size: int, seed: int, step: int) -> np.ndarray:
    """Indices ``(size,)`` of a step's images: one shuffled epoch after another."""
    at = np.arange(step * size, (step + 1) * size)
    epochs, within = np.divmod(at, n)
    parts = [_epoch(n, seed, int(e))[within[epochs == e]] for e in np.unique(epochs)]
    return np.concatenate(parts)


@lru_cache(maxsize=16)
def _epoch(n: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(n).astype(np.int32)

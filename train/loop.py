"""The training loop: a run is a function of its configuration and its data."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from .configs import Config, Model
from .data import Dataset
from .distortions import distort
from .evaluate import distorted_test_images, predict
from .models import build, count_parameters
from .objective import cross_entropy, error, make_optimizer

Row = dict[str, Any]


class Trained(NamedTuple):
    """A trained model and how it went."""

    name: Model
    model: nnx.Module
    rows: list[Row]
    """The metrics along the way, as ``fit`` reports them."""
    predictions: np.ndarray
    """The classes predicted for the distorted test images, ``(N,)``."""
    test_error: float
    """In percent."""
    parameters: int
    seconds: float
    """Of everything: compilation, training and evaluations."""


def fit(
    config: Config,
    name: Model,
    data: Dataset,
    on_row: Callable[[Row], None] = lambda row: None,
) -> Trained:
    """Train one model of the configuration.

    Args:
      config: what to train, and how.
      name: which of its models.
      data: the images and labels.
      on_row: called with each row of metrics as soon as it is known: step, loss and
        error (averages since the row before; errors are in percent), seconds since the
        start, images_per_second of training, and every ``config.eval_every`` steps and
        at the end test_error.
    """
    start = time.perf_counter()
    model = initial_model(config, name, data)
    graphdef, params = nnx.split(model)
    test_images = distorted_test_images(data, config.distortion)
    rows: list[Row] = []
    predictions = np.zeros(0)
    for trained, row in _train(config, graphdef, params, data):
        params = trained
        if row["step"] % config.eval_every == 0 or row["step"] == config.steps:
            predictions = predict(graphdef, params, test_images)
            row["test_error"] = _percent(predictions != data.test_labels)
        rows.append({"model": name, **row, "seconds": time.perf_counter() - start})
        on_row(rows[-1])
    return Trained(
        name=name,
        model=nnx.merge(graphdef, params),
        rows=rows,
        predictions=predictions,
        test_error=rows[-1]["test_error"],
        parameters=count_parameters(model),
        seconds=rows[-1]["seconds"],
    )


def initial_model(config: Config, name: Model, data: Dataset) -> nnx.Module:
    """The model as it is before the first step, for these data."""
    one = jax.ShapeDtypeStruct((1, *data.train_images.shape[1:]), jnp.float32)
    key = jax.random.key(0)
    (_, *canvas) = jax.eval_shape(partial(distort, config.distortion), key, one).shape
    return build(
        name,
        config.network,
        canvas=canvas,
        size=data.train_images.shape[1:3],
        num_classes=data.num_classes,
        parameters=config.parameters,
        seed=config.seed,
    )


def _train(
    config: Config, graphdef: nnx.GraphDef, params: nnx.State, data: Dataset
) -> Iterator[tuple[nnx.State, Row]]:
    """Take all steps; yield the parameters and a row of metrics now and then.

    The steps to the next row are one program, in which the device is on its own; the
    parameters of one are the buffers of the next, so that each row's are to be read
    before the next row.
    """
    optimizer = make_optimizer(config)
    params = jax.tree.map(jnp.copy, params)
    opt_state = optimizer.init(params)
    take = jax.jit(
        partial(train_steps, graphdef, optimizer, config.distortion),
        donate_argnums=(0, 1),
    )
    key = jax.random.key(config.seed)
    images, labels = jnp.asarray(data.train_images), jnp.asarray(data.train_labels)
    log_every = max(min(50, config.steps // 20), 1)
    queue = batches(len(images), config)
    ends = {config.steps}
    ends |= {*range(log_every, config.steps, log_every)}
    ends |= {*range(config.eval_every, config.steps, config.eval_every)}
    for first, last in itertools.pairwise([0, *sorted(ends)]):
        since = time.perf_counter()
        chosen = np.zeros((log_every, config.batch_size), np.int32)
        for row in range(last - first):
            chosen[row] = next(queue)
        params, opt_state, sums = take(
            params, opt_state, key, first, last, chosen, images, labels
        )
        loss, wrong = (float(x) / (last - first) for x in jax.device_get(sums))
        rate = (last - first) * config.batch_size / (time.perf_counter() - since)
        yield (
            params,
            {"step": last, "loss": loss, "error": wrong, "images_per_second": rate},
        )


def train_steps(
    graphdef: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    distortion: str,
    params: nnx.State,
    opt_state: optax.OptState,
    key: jax.Array,
    first: int,
    last: int,
    chosen: jax.Array,
    images: jax.Array,
    labels: jax.Array,
) -> tuple[Any, optax.OptState, tuple[jax.Array, jax.Array]]:
    """The steps from ``first`` to before ``last``; returns the sums of their metrics.

    Row i of ``chosen``, ``(rows, batch_size)``, holds the indices of the batch of step
    ``first + i``.
    """

    def body(step: jax.Array, carry: tuple) -> tuple:
        params, opt_state, sums = carry
        batch = chosen[step - first]
        params, opt_state, metrics = train_step(
            graphdef,
            optimizer,
            distortion,
            params,
            opt_state,
            jax.random.fold_in(key, step + 1),
            images[batch],
            labels[batch],
        )
        return params, opt_state, jax.tree.map(jnp.add, sums, metrics)

    zero = jnp.zeros(())
    return jax.lax.fori_loop(first, last, body, (params, opt_state, (zero, zero)))


def train_step(
    graphdef: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    distortion: str,
    params: nnx.State,
    opt_state: optax.OptState,
    key: jax.Array,
    images: jax.Array,
    labels: jax.Array,
) -> tuple[Any, optax.OptState, tuple[jax.Array, jax.Array]]:
    """One step: distort the batch, predict, improve; returns (loss, error) beside."""
    images = distort(distortion, key, images)

    def loss_fn(params: nnx.State) -> tuple[jax.Array, jax.Array]:
        logits = nnx.merge(graphdef, params)(images)
        return cross_entropy(logits, labels), error(logits, labels)

    (loss, wrong), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, (loss, wrong)


def _percent(wrong: np.ndarray) -> float:
    return round(100 * int(wrong.sum()) / len(wrong), 4)


def batches(n: int, config: Config) -> Iterator[np.ndarray]:
    """Indices ``(batch_size,)`` for each step: one shuffled epoch after the other."""
    queue, epoch = np.zeros(0, np.int32), 0
    for _ in range(config.steps):
        while len(queue) < config.batch_size:
            order = np.random.default_rng((config.seed, epoch)).permutation(n)
            queue, epoch = np.concatenate([queue, order.astype(np.int32)]), epoch + 1
        batch, queue = np.split(queue, [config.batch_size])
        yield batch

"""The training loop: deterministic, given the configuration and the data."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from .checkpoints import Checkpoint
from .configs import Config, differences, settings_of
from .data import Dataset
from .errors import ConfigError
from .evaluate import fixed_examples, predict
from .models import build, count_parameters, transformers_on_input, warped_size
from .objective import make_optimizer
from .specs import ModelSpec
from .steps import Batch, TrainState, batch_indices, train_steps
from .tasks import class_names, examples

Row = dict[str, Any]
SHOWN = 10  # test images whose transformations are recorded


class Snapshots(NamedTuple):
    """A model's transformations of some test images in the course of its training."""

    images: np.ndarray
    """``(n, *canvas, C)``, of different classes as far as possible."""
    labels: np.ndarray
    """``(n,)``."""
    predictions: np.ndarray
    """The classes predicted after the last step, ``(n,)``."""
    steps: np.ndarray
    """The steps after which the parameters were recorded, ``(T,)``."""
    params: np.ndarray
    """Parameters of the ``K`` transformers that sample the input, ``(T, K, n, P)``."""
    size: tuple[int, ...]
    """The size of these transformers' output."""


class Trained(NamedTuple):
    """A trained model and the record of its training."""

    spec: ModelSpec
    seed: int
    model: nnx.Module
    rows: list[Row]
    """The metrics, as ``fit`` reports them."""
    predictions: np.ndarray
    """The classes predicted for the test examples, ``(N,)``."""
    test_error: float
    """In percent."""
    parameters: int
    seconds: float
    """Time of compilation, training and evaluations, divided by the number of seeds
    that were trained in parallel."""
    snapshots: Snapshots

    @property
    def collapse(self) -> str | None:
        """What is wrong with a transformer that has lost the images; None if fine."""
        last = self.rows[-1]
        if last["blank"] > 50:
            return f"its output is blank for {last['blank']:.0f}% of the images"
        if last["outside"] > 90:
            return f"{last['outside']:.0f}% of its grid lies outside the images"
        return None


def fit(
    config: Config,
    spec: ModelSpec,
    data: Dataset,
    on_row: Callable[[Row], None] = lambda row: None,
    *,
    seeds: Sequence[int] | None = None,
    checkpoint: Checkpoint | None = None,
    every: float = 120.0,
) -> list[Trained]:
    """Train a model under one seed, or under several seeds in parallel.

    Args:
      config: the settings; its ``models`` are not used.
      spec: the model.
      data: the images and labels.
      on_row: called with each row of metrics as soon as it is known. A row holds model,
        seed, step; loss, error, outside and blank, averaged over the steps since the
        previous row (error: misclassified images, outside: sampling points outside the
        image, blank: blank transformer outputs, all in percent); seconds since the
        start; images_per_second; and test_error, every ``config.eval_every`` steps and
        after the last step.
      seeds: ``(config.seed,)`` if None. Each of several seeds gives the same result as
        alone, up to rounding.
      checkpoint: where the state is saved, and restored from if there is one. The rows
        up to a restored state are reported again.
      every: seconds between two saved states.

    Returns:
      One trained model per seed.

    Raises:
      ConfigError: the checkpoint belongs to another configuration.
    """
    seeds = (config.seed,) if seeds is None else tuple(seeds)
    training = _Fit(config, spec, data, seeds)
    if checkpoint:
        training.restore(checkpoint)
    for row in training.rows:
        on_row(row)
    saved = time.perf_counter()
    for rows in training.advance():
        for row in rows:
            on_row(row)
        is_over = training.step == config.steps
        if checkpoint and (is_over or time.perf_counter() - saved > every):
            training.save(checkpoint)
            saved = time.perf_counter()
    return [training.trained(index) for index in range(len(seeds))]


class _Fit:
    """State of ``S`` models trained in parallel; leaves are stacked along axis 0."""

    def __init__(
        self, config: Config, spec: ModelSpec, data: Dataset, seeds: Sequence[int]
    ) -> None:
        self.began = time.perf_counter()
        self.config, self.spec, self.data, self.seeds = config, spec, data, seeds
        models = [initial_model(replace(config, seed=s), spec, data) for s in seeds]
        self.model = models[0]
        self.graphdef, _ = nnx.split(self.model)
        params = jax.tree.map(
            lambda *leaves: jnp.stack(leaves), *(nnx.state(m) for m in models)
        )
        optimizer = make_optimizer(config)
        self.state = TrainState(
            params,
            jax.vmap(optimizer.init)(params),
            jnp.stack([jax.random.key(seed) for seed in seeds]),
            jnp.zeros((), jnp.int32),
        )
        axes = TrainState(0, 0, 0, None)  # pyright: ignore[reportArgumentType]
        steps = partial(train_steps, self.graphdef, optimizer, config)
        self.take = jax.jit(
            jax.vmap(steps, in_axes=(axes, None, 0, None), out_axes=(axes, 0)),
            donate_argnums=0,
        )
        self.tests, self.labels = fixed_examples(data.test, config.task)
        self.shown = first_of_each_class(self.labels, SHOWN)
        self.rows: list[Row] = []
        self.predictions = np.zeros((len(seeds), len(self.labels)), np.int32)
        self.recorded: list[np.ndarray] = []

    @property
    def step(self) -> int:
        """The number of steps taken."""
        return int(self.state.step)

    def advance(self) -> Iterator[list[Row]]:
        """Take the remaining steps; yield rows of metrics, one for each seed.

        The steps up to the next row are one program, which runs without the host.
        """
        config = self.config
        data = Batch(*map(jnp.asarray, self.data.train))
        length = max(min(50, config.steps // 20), 1)
        ends = {*range(length, config.steps, length), config.steps}
        ends |= {*range(config.eval_every, config.steps, config.eval_every)}
        for last in sorted(end for end in ends if end > self.step):
            since, count = time.perf_counter(), last - self.step
            chosen = self._chosen(count, length)
            self.state, sums = self.take(self.state, last, chosen, data)
            means = {name: x / count for name, x in jax.device_get(sums).items()}
            rate = count * config.batch_size / (time.perf_counter() - since)
            rows = [
                {"model": self.spec.name, "seed": seed, "step": last}
                | {name: float(x[index]) for name, x in means.items()}
                | {"images_per_second": rate, "seconds": self.seconds()}
                for index, seed in enumerate(self.seeds)
            ]
            params = self.state.params
            if last % config.eval_every == 0 or last == config.steps:
                self.predictions = predict(self.graphdef, params, self.tests)
                for row, predictions in zip(rows, self.predictions, strict=True):
                    row["test_error"] = _percent(predictions != self.labels)
            recorded = _localize(self.graphdef, params, self.tests[self.shown])
            self.recorded.append(np.asarray(recorded))
            self.rows += rows
            yield rows

    def _chosen(self, count: int, length: int) -> np.ndarray:
        """Indices ``(S, length, batch_size)`` of the next steps' images.

        The rows beyond ``count`` are zeros: with one shape there is one program.
        """
        config, n = self.config, len(self.data.train.labels)
        chosen = np.zeros((len(self.seeds), length, config.batch_size), np.int32)
        for of_seed, seed in zip(chosen, self.seeds, strict=True):
            for row in range(count):
                at = self.step + row
                of_seed[row] = batch_indices(n, config.batch_size, seed, at)
        return chosen

    def seconds(self) -> float:
        """Seconds since the start, including those before an interruption."""
        return time.perf_counter() - self.began

    def _leaves(self) -> tuple[list[str], list[jax.Array], Any]:
        state = (self.state.params, self.state.opt_state)
        flat, tree = jax.tree_util.tree_flatten_with_path(state)
        names = [jax.tree_util.keystr(path) for path, _ in flat]
        return names, [x for _, x in flat], tree

    def save(self, checkpoint: Checkpoint) -> None:
        """Save all that is needed to continue."""
        names, leaves, _ = self._leaves()
        arrays = dict(zip(names, map(np.asarray, leaves), strict=True))
        arrays |= {"predictions": self.predictions, "recorded": np.stack(self.recorded)}
        record = {"rows": self.rows, "seconds": self.seconds(), "of": self._identity()}
        checkpoint.save(self.step, arrays, record)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restore the saved state, if there is one."""
        if (saved := checkpoint.load()) is None:
            return
        arrays, record = saved
        if differ := differences(record["of"], self._identity()):
            raise ConfigError(
                f"{checkpoint.folder.path / checkpoint.name} holds the state of "
                f"another training: there, {differ}"
            )
        names, leaves, tree = self._leaves()
        restored = [
            jnp.asarray(arrays[name], leaf.dtype)
            for name, leaf in zip(names, leaves, strict=True)
        ]
        params, opt_state = jax.tree.unflatten(tree, restored)
        self.rows = record["rows"]
        step = jnp.asarray(self.rows[-1]["step"], self.state.step.dtype)
        self.state = TrainState(params, opt_state, self.state.key, step)
        self.predictions, self.recorded = arrays["predictions"], [*arrays["recorded"]]
        self.began -= record["seconds"]

    def _identity(self) -> dict[str, Any]:
        """What two trainings with the same results have in common."""
        settings = settings_of(self.config)
        del settings["models"], settings["seed"]
        return settings | {"model": self.spec.name, "seeds": [*self.seeds]}

    def trained(self, index: int) -> Trained:
        """The current model of one seed."""
        rows = self.rows[index :: len(self.seeds)]
        params = jax.tree.map(lambda leaf: leaf[index], self.state.params)
        return Trained(
            spec=self.spec,
            seed=self.seeds[index],
            model=nnx.merge(self.graphdef, params),
            rows=rows,
            predictions=self.predictions[index],
            test_error=rows[-1]["test_error"],
            parameters=count_parameters(self.model),
            seconds=rows[-1]["seconds"] / len(self.seeds),
            snapshots=Snapshots(
                images=self.tests[self.shown],
                labels=self.labels[self.shown],
                predictions=self.predictions[index][self.shown],
                steps=np.array([row["step"] for row in rows]),
                params=np.stack([params[index] for params in self.recorded]),
                size=warped_size(self.model, self.tests.shape[1:-1]),
            ),
        )


@partial(jax.jit, static_argnums=0)
def _localize(
    graphdef: nnx.GraphDef, states: nnx.State, images: jax.Array
) -> jax.Array:
    """The parameters of the transformers that sample the input, ``(S, K, n, P)``."""

    def one(state: nnx.State) -> jax.Array:
        transformers = transformers_on_input(nnx.merge(graphdef, state))
        params = [transformer.localize(images) for transformer in transformers]
        return jnp.stack(params) if params else jnp.zeros((0, len(images), 0))

    return jax.vmap(one)(states)


def initial_model(config: Config, spec: ModelSpec, data: Dataset) -> nnx.Module:
    """The model before the first step, of the size that the data need."""
    shape = (2, *data.train.images.shape[1:])
    key, labels = jax.random.key(0), jnp.zeros(2, jnp.int32)
    distorted, _ = jax.eval_shape(
        partial(examples, config.task),
        key,
        jax.ShapeDtypeStruct(shape, jnp.float32),
        labels,
    )
    return build(
        spec,
        config.network,
        canvas=distorted.shape[1:],
        size=data.train.images.shape[1:3],
        num_classes=len(class_names(config.task, data.classes)),
        parameters=config.parameters,
        bound=config.bound,
        seed=config.seed,
    )


def _percent(wrong: np.ndarray) -> float:
    return round(100 * int(wrong.sum()) / len(wrong), 4)


def first_of_each_class(labels: np.ndarray, count: int) -> np.ndarray:
    """Indices of ``count`` examples: the first of each class, then the first others."""
    _, first = np.unique(labels, return_index=True)
    others = np.setdiff1d(np.arange(len(labels)), first)
    return np.concatenate([first, others])[:count]

"""The training loop: a run is a function of its configuration and its data."""

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
from .configs import Config, ConfigError, Model, meaning
from .data import Dataset
from .evaluate import predict, test_examples
from .models import build, count_parameters, size_seen, transformers_on_input
from .objective import make_optimizer
from .steps import batch, train_steps
from .tasks import count_classes, examples

Row = dict[str, Any]
SHOWN = 10  # test images, of which it is kept where the transformers looked


class Looks(NamedTuple):
    """Where a model's transformers looked in some test images as training went on."""

    images: np.ndarray
    """``(n, *canvas, C)``, of different classes as far as there are so many."""
    labels: np.ndarray
    """``(n,)``."""
    predictions: np.ndarray
    """At the end: ``(n,)``."""
    steps: np.ndarray
    """``(T,)``."""
    params: np.ndarray
    """Of the transformers that read the input: ``(T, K, n, P)``; K = 0 without one."""
    size: tuple[int, ...]
    """Of what they see."""


class Trained(NamedTuple):
    """A trained model and how it went."""

    name: Model
    seed: int
    model: nnx.Module
    rows: list[Row]
    """The metrics along the way, as ``fit`` reports them."""
    predictions: np.ndarray
    """The classes predicted for the test examples, ``(N,)``."""
    test_error: float
    """In percent."""
    parameters: int
    seconds: float
    """Of everything, compilation, training and evaluations, over the number of seeds
    side by side."""
    looks: Looks

    @property
    def collapse(self) -> str | None:
        """What has become of the transformer, where it sees nothing any more."""
        last = self.rows[-1]
        if last["blank"] > 50:
            return f"it sees nothing in {last['blank']:.0f}% of the images"
        if last["outside"] > 90:
            return f"{last['outside']:.0f}% of its grid lies outside of the images"
        return None


def fit(
    config: Config,
    name: Model,
    data: Dataset,
    on_row: Callable[[Row], None] = lambda row: None,
    *,
    seeds: Sequence[int] | None = None,
    checkpoint: Checkpoint | None = None,
    every: float = 120.0,
) -> list[Trained]:
    """Train one model of the configuration, under one seed or several side by side.

    Args:
      config: what to train, and how.
      name: which of its models.
      data: the images and labels.
      on_row: called with each row of metrics as soon as it is known: model, seed, step,
        loss and error (averages since the row before; errors are in percent), outside
        and blank (how much of the grids lies outside of the image, and in how many
        images there is nothing to see, in percent), seconds since the start,
        images_per_second of training, and every ``config.eval_every`` steps and at the
        end test_error.
      seeds: ``config.seed`` alone when None. Side by side, each is trained as it would
        be alone, up to rounding.
      checkpoint: where to keep the state, and to go on from; the rows that it holds are
        reported again.
      every: seconds between two states kept.

    Returns:
      One for each seed.

    Raises:
      ConfigError: the checkpoint is of another configuration.
    """
    seeds = (config.seed,) if seeds is None else tuple(seeds)
    training = _Training(config, name, data, seeds)
    if checkpoint:
        training.restore(checkpoint)
    for row in training.rows:
        on_row(row)
    saved = time.perf_counter()
    for rows in training.go_on():
        for row in rows:
            on_row(row)
        is_over = training.step == config.steps
        if checkpoint and (is_over or time.perf_counter() - saved > every):
            training.save(checkpoint)
            saved = time.perf_counter()
    return [training.trained(index) for index in range(len(seeds))]


class _Training:
    """Models side by side, ``S`` of them, on their way: what is theirs is stacked."""

    def __init__(
        self, config: Config, name: Model, data: Dataset, seeds: Sequence[int]
    ) -> None:
        self.began = time.perf_counter()
        self.config, self.data, self.seeds = config, data, seeds
        self.name: Model = name
        models = [initial_model(replace(config, seed=s), name, data) for s in seeds]
        self.model = models[0]
        self.graphdef, _ = nnx.split(self.model)
        self.params = jax.tree.map(
            lambda *leaves: jnp.stack(leaves), *(nnx.state(m) for m in models)
        )
        optimizer = make_optimizer(config)
        self.opt_state = jax.vmap(optimizer.init)(self.params)
        self.keys = jnp.stack([jax.random.key(seed) for seed in seeds])
        steps = partial(train_steps, self.graphdef, optimizer, config)
        self.take = jax.jit(
            jax.vmap(steps, in_axes=(0, 0, 0, None, None, 0, None, None)),
            donate_argnums=(0, 1),
        )
        self.tests, self.labels = test_examples(data, config.task)
        self.shown = first_of_each_class(self.labels, SHOWN)
        self.step = 0
        self.rows: list[Row] = []
        self.predictions = np.zeros((len(seeds), len(self.labels)), np.int32)
        self.looks: list[np.ndarray] = []

    def go_on(self) -> Iterator[list[Row]]:
        """Take the steps that are left; yield rows of metrics, one for each seed.

        The steps to the next row are one program, in which the device is on its own;
        the parameters of one are the buffers of the next.
        """
        config = self.config
        images = jnp.asarray(self.data.train_images)
        labels = jnp.asarray(self.data.train_labels)
        length = max(min(50, config.steps // 20), 1)
        ends = {*range(length, config.steps, length), config.steps}
        ends |= {*range(config.eval_every, config.steps, config.eval_every)}
        for last in sorted(end for end in ends if end > self.step):
            since, count = time.perf_counter(), last - self.step
            chosen = np.zeros((len(self.seeds), length, config.batch_size), np.int32)
            for of_seed, seed in zip(chosen, self.seeds, strict=True):
                for row in range(count):
                    of_seed[row] = batch(
                        len(images), config.batch_size, seed, self.step + row
                    )
            self.params, self.opt_state, sums = self.take(
                self.params,
                self.opt_state,
                self.keys,
                self.step,
                last,
                chosen,
                images,
                labels,
            )
            means = {name: x / count for name, x in jax.device_get(sums).items()}
            rate = count * config.batch_size / (time.perf_counter() - since)
            self.step = last
            rows = [
                {"model": self.name, "seed": seed, "step": last}
                | {name: float(x[index]) for name, x in means.items()}
                | {"images_per_second": rate, "seconds": self.seconds()}
                for index, seed in enumerate(self.seeds)
            ]
            if last % config.eval_every == 0 or last == config.steps:
                self.predictions = predict(self.graphdef, self.params, self.tests)
                for row, predictions in zip(rows, self.predictions, strict=True):
                    row["test_error"] = _percent(predictions != self.labels)
            where = _where(self.graphdef, self.params, self.tests[self.shown])
            self.looks.append(np.asarray(where))
            self.rows += rows
            yield rows

    def seconds(self) -> float:
        """Since the beginning, those before an interruption included."""
        return time.perf_counter() - self.began

    def _state(self) -> tuple[list[str], list[jax.Array], Any]:
        flat, tree = jax.tree_util.tree_flatten_with_path((self.params, self.opt_state))
        return (
            [jax.tree_util.keystr(path) for path, _ in flat],
            [x for _, x in flat],
            tree,
        )

    def save(self, checkpoint: Checkpoint) -> None:
        """Keep all that is needed to go on."""
        names, leaves, _ = self._state()
        arrays = dict(zip(names, map(np.asarray, leaves), strict=True))
        arrays |= {"predictions": self.predictions, "looks": np.stack(self.looks)}
        record = {"rows": self.rows, "seconds": self.seconds(), "of": self._identity()}
        checkpoint.save(self.step, arrays, record)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go back to where the checkpoint is, if there is one."""
        if (saved := checkpoint.load()) is None:
            return
        arrays, record = saved
        if record["of"] != self._identity():
            theirs, ours = record["of"], self._identity()
            differ = [name for name in ours if theirs.get(name) != ours[name]]
            raise ConfigError(
                f"{checkpoint.folder.path / checkpoint.name} holds the state of "
                "another training: there, "
                + ", ".join(f"{n} is {theirs.get(n)}, not {ours[n]}" for n in differ)
            )
        names, leaves, tree = self._state()
        restored = [
            jnp.asarray(arrays[name], leaf.dtype)
            for name, leaf in zip(names, leaves, strict=True)
        ]
        self.params, self.opt_state = jax.tree.unflatten(tree, restored)
        self.predictions, self.looks = arrays["predictions"], [*arrays["looks"]]
        self.rows = record["rows"]
        self.step = self.rows[-1]["step"]
        self.began -= record["seconds"]

    def _identity(self) -> dict[str, Any]:
        """What two trainings that are the same have in common."""
        identity = meaning(self.config)
        for name in ("models", "seed"):
            del identity[name]
        identity |= {"model": self.name, "seeds": [*self.seeds]}
        return {name: str(value) for name, value in identity.items()}

    def trained(self, index: int) -> Trained:
        """The model of one seed, as it is now."""
        rows = self.rows[index :: len(self.seeds)]
        return Trained(
            name=self.name,
            seed=self.seeds[index],
            model=nnx.merge(
                self.graphdef, jax.tree.map(lambda leaf: leaf[index], self.params)
            ),
            rows=rows,
            predictions=self.predictions[index],
            test_error=rows[-1]["test_error"],
            parameters=count_parameters(self.model),
            seconds=rows[-1]["seconds"] / len(self.seeds),
            looks=Looks(
                images=self.tests[self.shown],
                labels=self.labels[self.shown],
                predictions=self.predictions[index][self.shown],
                steps=np.array([row["step"] for row in rows]),
                params=np.stack([where[index] for where in self.looks]),
                size=size_seen(self.model, self.tests.shape[1:-1]),
            ),
        )


@partial(jax.jit, static_argnums=0)
def _where(graphdef: nnx.GraphDef, states: nnx.State, images: jax.Array) -> jax.Array:
    """The parameters of the transformers that read the input: ``(S, K, n, P)``."""

    def one(state: nnx.State) -> jax.Array:
        transformers = transformers_on_input(nnx.merge(graphdef, state))
        params = [transformer.localize(images) for transformer in transformers]
        return jnp.stack(params) if params else jnp.zeros((0, len(images), 0))

    return jax.vmap(one)(states)


def initial_model(config: Config, name: Model, data: Dataset) -> nnx.Module:
    """The model as it is before the first step, for these data."""
    shape = (2, *data.train_images.shape[1:])
    key, labels = jax.random.key(0), jnp.zeros(2, jnp.int32)
    seen, _ = jax.eval_shape(
        partial(examples, config.task),
        key,
        jax.ShapeDtypeStruct(shape, jnp.float32),
        labels,
    )
    return build(
        name,
        config.network,
        canvas=seen.shape[1:],
        size=data.train_images.shape[1:3],
        num_classes=count_classes(config.task, data.num_classes),
        parameters=config.parameters,
        bound=config.bound,
        seed=config.seed,
    )


def _percent(wrong: np.ndarray) -> float:
    return round(100 * int(wrong.sum()) / len(wrong), 4)


def first_of_each_class(labels: np.ndarray, count: int) -> np.ndarray:
    """The first example of each class, filled up with the first of all."""
    _, first = np.unique(labels, return_index=True)
    others = np.setdiff1d(np.arange(len(labels)), first)
    return np.concatenate([first, others])[:count]

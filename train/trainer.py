"""Training: many steps as one program, evaluations between them, the best states."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from .configs import Config, Network
from .data import Dataset, sha256_of
from .devices import (
    BATCH,
    BY_SEED,
    EVERYWHERE,
    SEED,
    mesh_for,
    on_each,
    put,
    to_host,
)
from .errors import Diverged
from .evaluate import VALIDATION_KEY, fixed_examples, percent_wrong, predict
from .feed import Resident, Streamed, Work, feed_spec, is_large
from .initial import initial_model
from .models import count_parameters
from .objective import make_optimizer
from .profiling import Profile
from .share import WHOLE, Share
from .specs import ModelSpec
from .steps import TrainState, added, means, train_steps
from .tasks import as_floats, class_names
from .trained import Kept, Row, Snapshots, Trained
from .transformers import localize_images, warped_size

# networks with large steps; each step is then a program of its own
ONE_BY_ONE: tuple[Network, ...] = ("svhn", "svhn_lean", "cub", "cub_lean")
SHOWN = 10  # held-out images whose transformations are recorded


class Trainer:
    """``S`` models in training, in parallel; leaves are stacked along axis 0."""

    def __init__(
        self, config: Config, spec: ModelSpec, data: Dataset, seeds: Sequence[int]
    ) -> None:
        self.began = time.perf_counter()
        self.config, self.spec, self.data, self.seeds = config, spec, data, seeds
        models = [initial_model(replace(config, seed=s), spec, data) for s in seeds]
        self.model = models[0]
        self.graphdef, _ = nnx.split(self.model)
        params = stacked(nnx.state(m) for m in models)
        self.optimizer = make_optimizer(config)
        self.mesh = mesh_for(config, len(seeds))
        self.place(params, jax.vmap(self.optimizer.init)(params), 0)
        self.take = jax.jit(self._on_each_device(), donate_argnums=0)
        self.images, self.labels = self._held_out()
        self.shown = first_of_each_class(self.labels, SHOWN)
        self.rows: list[Row] = []
        self.best: list[list[Kept]] = [[] for _ in seeds]
        self.recorded: list[np.ndarray] = []

    def place(self, params: Any, opt_state: Any, step: int) -> None:
        """Make these the state of the training after so many steps, on its devices."""
        keys = jnp.stack([jax.random.key(seed) for seed in self.seeds])
        params, opt_state, keys = put(self.mesh, BY_SEED, (params, opt_state, keys))
        steps_taken = put(self.mesh, EVERYWHERE, np.int32(step))
        self.state = TrainState(params, opt_state, keys, steps_taken)

    def _on_each_device(self) -> Callable[..., Any]:
        """The steps of all seeds, on the devices: each computes its share."""
        count = self.mesh.shape[BATCH]

        def steps(*arguments: Any) -> Any:
            share = Share(lax.axis_index(BATCH), count) if count > 1 else WHOLE
            one = partial(train_steps, self.graphdef, self.optimizer, self.config)
            axes: Any = TrainState(0, 0, 0, None)  # pyright: ignore[reportArgumentType]
            of_seeds = jax.vmap(
                partial(one, share=share),
                in_axes=(axes, None, 0, None),
                out_axes=(axes, 0),
            )
            return of_seeds(*arguments)

        state: Any = TrainState(BY_SEED, BY_SEED, BY_SEED, EVERYWHERE)  # pyright: ignore[reportArgumentType]
        given = (state, EVERYWHERE, P(SEED, None, BATCH), feed_spec(self.data))
        return on_each(self.mesh, steps, given, (state, BY_SEED))

    def _held_out(self) -> tuple[np.ndarray, np.ndarray]:
        """The examples of the validation part or, without one, of the test set."""
        if self.data.validation is None:
            return fixed_examples(self.data.test, self.config.task)
        return fixed_examples(self.data.validation, self.config.task, VALIDATION_KEY)

    @cached_property
    def data_sha256(self) -> str:
        """The digest of the data, which are read once for it."""
        return sha256_of(self.data)

    @property
    def step(self) -> int:
        """The number of steps taken."""
        return int(self.state.step)

    def advance(self, trace: Path | None = None) -> Iterator[Row]:
        """Take the remaining steps; yield rows of metrics, one for each seed.

        The steps up to the next row are one program, which runs without the host, or
        one program each.
        """
        length = max(min(50, self.config.steps // 20), 1)
        feed = self.feed(length)
        with Profile(trace, self.config.profile) as profile:
            for last in self._ends(length):
                profile.begin_program()
                count = last - self.step
                rows = self._take_until(last, feed.until(self.step, last))
                profile.end_program(count)
                if last % self.config.eval_every == 0 or last == self.config.steps:
                    self._evaluate(rows)
                shown = as_floats(self.images[self.shown])
                shown = put(self.mesh, EVERYWHERE, shown)
                params = _localize(self.graphdef, self.mesh, self.state.params, shown)
                self.recorded.append(to_host(self.mesh, params))
                self.rows += rows
                yield from rows

    def feed(self, length: int) -> Resident | Streamed:
        """What the programs of at most ``length`` steps take."""
        given = self.config, self.data, self.seeds, self.mesh
        if is_large(self.data.train.images):
            return Streamed(*given, self.step)
        return Resident(*given, 1 if self.config.network in ONE_BY_ONE else length)

    def _take_until(self, last: int, programs: Iterable[Work]) -> list[Row]:
        """Take the steps up to number ``last``; return a row for each seed."""
        since, count = time.perf_counter(), last - self.step
        parts = []
        for work in programs:
            self.state, part = self.take(self.state, *work)
            parts.append(part)
        sums = added(to_host(self.mesh, parts))
        rate = count * self.config.batch_size / (time.perf_counter() - since)
        self._check_finite(sums, last)
        return [
            {"model": self.spec.name, "seed": seed, "step": last}
            | means({name: x[index] for name, x in sums.items()}, count)
            | {"images_per_second": rate, "seconds": self.seconds()}
            for index, seed in enumerate(self.seeds)
        ]

    def _ends(self, length: int) -> list[int]:
        """The steps after which there is a row, if they are still to be taken."""
        steps, every = self.config.steps, self.config.eval_every
        ends = {*range(length, steps, length), *range(every, steps, every), steps}
        return sorted(end for end in ends if end > self.step)

    def _check_finite(self, sums: dict[str, np.ndarray], last: int) -> None:
        """Raise Diverged if a loss or a parameter is NaN or infinite."""
        first = int(sums.pop("first_nonfinite").min())
        is_finite = sums.pop("params_are_finite").all()
        if self.config.on_nan == "skip" or (first > last and is_finite):
            return
        what = (
            f"the loss of {self.spec.name} is NaN or infinite in step {first:,}"
            if first <= last
            else f"weights of {self.spec.name} are NaN or infinite after step {last:,}"
        )
        raise Diverged(
            f"{what}. Try a lower --learning-rate or --localization-learning-rate, "
            "--clip 1, or --on-nan skip, which leaves such steps out."
        )

    def _evaluate(self, rows: list[Row]) -> None:
        """Add the errors on the held-out part to the rows; note the best states."""
        predictions = predict(
            self.graphdef, self.state.params, self.images, mesh=self.mesh
        )
        errors = [percent_wrong(of_seed, self.labels) for of_seed in predictions]
        if self.data.validation is None:
            for row, error in zip(rows, errors, strict=True):
                row["test_error"] = error
            return
        params = to_host(self.mesh, self.state.params)
        for index, (row, error) in enumerate(zip(rows, errors, strict=True)):
            row["validation_error"] = error
            kept = Kept(row["step"], error, state_of(params, index))
            best = [kept, *self.best[index]]
            # of states with the same error, the later comes first
            best.sort(key=lambda kept: (kept.validation_error, -kept.step))
            self.best[index] = best[: self.config.keep]

    def seconds(self) -> float:
        """Seconds since the start, including those before an interruption."""
        return time.perf_counter() - self.began

    def trained(self) -> list[Trained]:
        """The trained models, tested."""
        params = to_host(self.mesh, self.state.params)
        rows = [self.rows[index :: len(self.seeds)] for index in range(len(self.seeds))]
        last = [
            Kept(self.step, of[-1].get("validation_error"), state_of(params, index))
            for index, of in enumerate(rows)
        ]
        chosen = [(*best, own)[0] for best, own in zip(self.best, last, strict=True)]
        states = put(self.mesh, BY_SEED, stacked(kept.params for kept in chosen))
        shown = np.asarray(as_floats(self.images[self.shown]))
        of_shown = predict(self.graphdef, states, shown, mesh=self.mesh)
        if self.data.validation is not None:  # else the test set is there
            del self.images
        images, labels = (
            (self.images, self.labels)
            if self.data.validation is None
            else fixed_examples(self.data.test, self.config.task)
        )
        predictions = predict(self.graphdef, states, images, mesh=self.mesh)
        return [
            Trained(
                spec=self.spec,
                seed=seed,
                model=nnx.merge(self.graphdef, jax.tree.map(jnp.asarray, kept.params)),
                rows=rows[index],
                predictions=predictions[index],
                test_error=percent_wrong(predictions[index], labels),
                best=self.best[index],
                last=last[index],
                parameters=count_parameters(self.model),
                seconds=rows[index][-1]["seconds"] / len(self.seeds),
                snapshots=self._snapshots(index, kept.step, shown, of_shown[index]),
            )
            for index, (seed, kept) in enumerate(zip(self.seeds, chosen, strict=True))
        ]

    def _snapshots(
        self, index: int, step: int, images: np.ndarray, predictions: np.ndarray
    ) -> Snapshots:
        steps = [row["step"] for row in self.rows[index :: len(self.seeds)]]
        return Snapshots(
            images=images,
            labels=self.labels[self.shown],
            predictions=predictions,
            steps=np.array(steps),
            params=np.stack([params[index] for params in self.recorded]),
            size=warped_size(self.model, images.shape[1:-1]),
            chosen=steps.index(step),
            classes=class_names(self.config.task, self.data.classes),
        )


def stacked(states: Iterable[nnx.State]) -> nnx.State:
    """States of one structure, their leaves stacked along a new axis 0."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


def state_of(states: nnx.State, index: int) -> nnx.State:
    """The state of one of several models."""
    return jax.tree.map(lambda leaf: leaf[index], states)


@partial(jax.jit, static_argnums=(0, 1))
def _localize(
    graphdef: nnx.GraphDef, mesh: Mesh, states: nnx.State, images: jax.Array
) -> jax.Array:
    """The parameters of the transformers that sample the input, ``(S, K, n, P)``."""

    def one(state: nnx.State, images: jax.Array) -> jax.Array:
        return localize_images(nnx.merge(graphdef, state), images)

    of_seeds = jax.vmap(one, in_axes=(0, None))
    return on_each(mesh, of_seeds, (BY_SEED, EVERYWHERE), BY_SEED)(states, images)


def first_of_each_class(labels: np.ndarray, count: int) -> np.ndarray:
    """Indices of ``count`` examples: the first of each class, then the first others.

    Of more classes than ``count`` it takes some that are evenly apart. Of labels with
    several places, it takes the first with each number of digits.
    """
    if labels.ndim > 1:
        labels = (labels > 0).sum(axis=1)
    _, first = np.unique(labels, return_index=True)
    others = np.setdiff1d(np.arange(len(labels)), first)
    if len(first) > count:
        first = first[np.linspace(0, len(first) - 1, count).astype(int)]
    return np.concatenate([first, others])[:count]

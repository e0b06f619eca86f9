"""The training loop: deterministic, given the configuration and the data."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from .configs import Config, differences, settings_of
from .data import Dataset, sha256_of
from .errors import ConfigError, Diverged, OutputError, Stopped
from .evaluate import VALIDATION_KEY, fixed_examples, percent_wrong, predict
from .interruption import Interruption
from .models import build, count_parameters, transformers_on_input, warped_size
from .objective import make_optimizer
from .profiling import Profile
from .specs import ModelSpec
from .steps import Batch, TrainState, batch_indices, means, train_steps
from .storage.checkpoints import Checkpoint
from .tasks import class_names, examples
from .trained import Kept, Row, Snapshots, Trained

SHOWN = 10  # held-out images whose transformations are recorded


def fit(
    config: Config,
    spec: ModelSpec,
    data: Dataset,
    on_row: Callable[[Row], None] = lambda row: None,
    *,
    seeds: Sequence[int] | None = None,
    checkpoint: Checkpoint | None = None,
    trace: Path | None = None,
) -> list[Trained]:
    """Train a model under one seed, or under several seeds in parallel.

    Args:
      config: the settings; its ``models`` are not used.
      spec: the model.
      data: the images and labels. With a validation part, states are chosen by it, and
        the chosen state is tested at the end.
      on_row: called with each row of metrics as soon as it is known. A row holds model,
        seed, step; loss, error, outside and blank, averaged over the steps since the
        previous row (error: misclassified images, outside: sampling points outside the
        image, blank: blank transformer outputs, all in percent); seconds since the
        start; images_per_second; and, every ``config.eval_every`` steps and after the
        last step, validation_error, or test_error if there is no validation part. With
        ``config.on_nan`` "skip" also skipped, the number of steps left out.
      seeds: ``(config.seed,)`` if None. Each of several seeds gives the same result as
        alone, up to rounding.
      checkpoint: where the state is saved, and restored from if there is one. The rows
        up to a restored state are reported again.
      trace: the folder for a profile of ``config.profile`` steps.

    Returns:
      One trained model per seed.

    Raises:
      ConfigError: the checkpoint belongs to another configuration or other data.
      Diverged: a loss or a parameter is no longer finite.
      Stopped: a signal has arrived, and the state was saved to the checkpoint.
    """
    seeds = (config.seed,) if seeds is None else tuple(seeds)
    training = _Fit(config, spec, data, seeds)
    if checkpoint is None:
        for row in training.advance(trace):
            on_row(row)
        return training.trained()
    training.restore(checkpoint)
    for row in training.rows:
        on_row(row)
    with Interruption() as interruption:
        saver = _Saver(training, checkpoint, 60 * config.checkpoint_minutes)
        try:
            for row in training.advance(trace):
                on_row(row)
                if row["seed"] == seeds[-1]:
                    saver.save_if_needed(interruption.signal)
        except Diverged as error:
            raise Diverged(f"{error} {saver.last_state}") from None
    return training.trained()


class _Saver:
    """Saves the state of a training every so many seconds, and at its end.

    A disk that is full does not end the training: the earlier state stays.
    """

    def __init__(self, training: _Fit, checkpoint: Checkpoint, every: float) -> None:
        self.training, self.checkpoint, self.every = training, checkpoint, every
        self.saved_at = time.perf_counter()
        self.step = training.step

    def save_if_needed(self, signal: int | None) -> None:
        """Save the state if it is time; raise Stopped if a signal has arrived."""
        is_over = self.training.step == self.training.config.steps
        is_time = time.perf_counter() - self.saved_at >= self.every
        if is_over or is_time or signal:
            self._save()
        if signal and not is_over:
            raise Stopped(signal, self.step)

    @property
    def last_state(self) -> str:
        """Which state is on the disk, in words."""
        if self.step == 0:
            return "No state had been saved."
        return f"The state of step {self.step:,} is kept."

    def _save(self) -> None:
        try:
            self.training.save(self.checkpoint)
            self.step = self.training.step
        except OutputError as error:
            warnings.warn(
                f"the state of step {self.training.step} was not saved ({error}); that "
                f"of step {self.step} stays, and the training goes on",
                stacklevel=2,
            )
        self.saved_at = time.perf_counter()


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
        params = stacked(nnx.state(m) for m in models)
        self.optimizer = make_optimizer(config)
        self.state = TrainState(
            params,
            jax.vmap(self.optimizer.init)(params),
            jnp.stack([jax.random.key(seed) for seed in seeds]),
            jnp.zeros((), jnp.int32),
        )
        axes = TrainState(0, 0, 0, None)  # pyright: ignore[reportArgumentType]
        steps = partial(train_steps, self.graphdef, self.optimizer, config)
        self.take = jax.jit(
            jax.vmap(steps, in_axes=(axes, None, 0, None), out_axes=(axes, 0)),
            donate_argnums=0,
        )
        self.images, self.labels = self._held_out()
        self.shown = first_of_each_class(self.labels, SHOWN)
        self.rows: list[Row] = []
        self.best: list[list[Kept]] = [[] for _ in seeds]
        self.recorded: list[np.ndarray] = []

    def _held_out(self) -> tuple[np.ndarray, np.ndarray]:
        """The examples of the validation part or, without one, of the test set."""
        if self.data.validation is None:
            return fixed_examples(self.data.test, self.config.task)
        return fixed_examples(self.data.validation, self.config.task, VALIDATION_KEY)

    @property
    def step(self) -> int:
        """The number of steps taken."""
        return int(self.state.step)

    def advance(self, trace: Path | None = None) -> Iterator[Row]:
        """Take the remaining steps; yield rows of metrics, one for each seed.

        The steps up to the next row are one program, which runs without the host.
        """
        data = Batch(*map(jnp.asarray, self.data.train))
        length = max(min(50, self.config.steps // 20), 1)
        with Profile(trace, self.config.profile) as profile:
            for last in self._ends(length):
                profile.begin_program()
                count = last - self.step
                rows = self._take_until(last, self._chosen(count, length), data)
                profile.end_program(count)
                if last % self.config.eval_every == 0 or last == self.config.steps:
                    self._evaluate(rows)
                shown = self.images[self.shown]
                recorded = _localize(self.graphdef, self.state.params, shown)
                self.recorded.append(np.asarray(recorded))
                self.rows += rows
                yield from rows

    def _take_until(self, last: int, chosen: np.ndarray, data: Batch) -> list[Row]:
        """Take the steps up to number ``last``; return a row for each seed."""
        since, count = time.perf_counter(), last - self.step
        self.state, sums = self.take(self.state, last, chosen, data)
        sums = jax.device_get(sums)
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
        predictions = predict(self.graphdef, self.state.params, self.images)
        errors = [percent_wrong(of_seed, self.labels) for of_seed in predictions]
        if self.data.validation is None:
            for row, error in zip(rows, errors, strict=True):
                row["test_error"] = error
            return
        params = jax.device_get(self.state.params)
        for index, (row, error) in enumerate(zip(rows, errors, strict=True)):
            row["validation_error"] = error
            kept = Kept(row["step"], error, _of_seed(params, index))
            best = [kept, *self.best[index]]
            # of states with the same error, the later comes first
            best.sort(key=lambda kept: (kept.validation_error, -kept.step))
            self.best[index] = best[: self.config.keep]

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

    def save(self, checkpoint: Checkpoint) -> None:
        """Save all that is needed to continue.

        The place in the data follows from the step and the seeds.
        """
        params, opt_state = self.state.params, self.state.opt_state
        arrays = _by_name({"params": params, "optimizer": opt_state})
        arrays["recorded"] = np.stack(self.recorded)
        for index, of_seed in enumerate(self.best):
            for rank, kept in enumerate(of_seed):
                arrays |= _by_name({f"best-{index}-{rank}": kept.params})
        best = [[(k.step, k.validation_error) for k in of] for of in self.best]
        record = {"rows": self.rows, "best": best, "seconds": self.seconds()}
        checkpoint.save(self.step, arrays, record | {"of": self._identity()})

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
        state = {"params": self.state.params, "optimizer": self.state.opt_state}
        state = _with_arrays(state, arrays, jnp.asarray)
        self.rows = record["rows"]
        step = jnp.asarray(self.rows[-1]["step"], self.state.step.dtype)
        self.state = TrainState(
            state["params"], state["optimizer"], self.state.key, step
        )
        self.recorded = [*arrays["recorded"]]
        for index, of_seed in enumerate(record["best"]):
            like = _of_seed(self.state.params, index)
            for rank, (at, error) in enumerate(of_seed):
                name = f"best-{index}-{rank}"
                params = _with_arrays({name: like}, arrays, np.asarray)[name]
                self.best[index].append(Kept(at, error, params))
        self.began -= record["seconds"]

    def _identity(self) -> dict[str, Any]:
        """What two trainings with the same results have in common."""
        settings = settings_of(self.config)
        del settings["models"], settings["seed"]
        return settings | {
            "model": self.spec.name,
            "seeds": [*self.seeds],
            "data": sha256_of(self.data),
        }

    def trained(self) -> list[Trained]:
        """The trained models, tested."""
        params = jax.device_get(self.state.params)
        rows = [self.rows[index :: len(self.seeds)] for index in range(len(self.seeds))]
        last = [
            Kept(self.step, of[-1].get("validation_error"), _of_seed(params, index))
            for index, of in enumerate(rows)
        ]
        chosen = [(*best, own)[0] for best, own in zip(self.best, last, strict=True)]
        states = stacked(kept.params for kept in chosen)
        shown = self.images[self.shown]
        of_shown = predict(self.graphdef, states, shown)
        if self.data.validation is not None:  # else the test set is there
            del self.images
        images, labels = (
            (self.images, self.labels)
            if self.data.validation is None
            else fixed_examples(self.data.test, self.config.task)
        )
        predictions = predict(self.graphdef, states, images)
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


def _of_seed(states: nnx.State, index: int) -> nnx.State:
    return jax.tree.map(lambda leaf: leaf[index], states)


def _by_name(tree: Any) -> dict[str, np.ndarray]:
    """The leaves of a tree by their paths."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def _with_arrays(tree: Any, arrays: Mapping[str, np.ndarray], make: Callable) -> Any:
    """A tree of the same structure, with the arrays of these paths as leaves."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: make(arrays[jax.tree_util.keystr(path)], leaf.dtype), tree
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
    try:
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
    except ConfigError:
        raise
    except ValueError as error:  # from a layer whose input is too small
        size = "x".join(map(str, distorted.shape[1:-1]))
        raise ConfigError(
            f"images of {size} pixels are too small for {spec.name} with --network "
            f"{config.network}: {error}"
        ) from error


def first_of_each_class(labels: np.ndarray, count: int) -> np.ndarray:
    """Indices of ``count`` examples: the first of each class, then the first others."""
    _, first = np.unique(labels, return_index=True)
    others = np.setdiff1d(np.arange(len(labels)), first)
    return np.concatenate([first, others])[:count]

"""States of a training on the disk: when they are saved, and what they hold."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from stn_jax.cpu import PLAIN

from . import processes
from .configs import differences, settings_of
from .devices import to_host
from .errors import ConfigError, OutputError, Stopped
from .storage.checkpoints import Checkpoint
from .storage.circumstances import sampler
from .trained import Kept
from .trainer import Trainer, state_of


class Saver:
    """Saves the state of a training every so many seconds, and at its end.

    A disk that is full does not end the training: the earlier state stays.
    """

    def __init__(
        self, trainer: Trainer, checkpoint: Checkpoint | None, every: float
    ) -> None:
        self.trainer, self.checkpoint, self.every = trainer, checkpoint, every
        self.saved_at = time.perf_counter()
        self.step = trainer.step

    def save_if_needed(self, signal: int | None) -> None:
        """Save the state if it is time; raise Stopped if a signal has arrived."""
        is_over = self.trainer.step == self.trainer.config.steps
        is_time = time.perf_counter() - self.saved_at >= self.every
        signal, is_time = processes.largest(signal or 0, is_time)
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
            save(self.trainer, self.checkpoint)
            self.step = self.trainer.step
        except OutputError as error:
            warnings.warn(
                f"the state of step {self.trainer.step} was not saved ({error}); that "
                f"of step {self.step} stays, and the training goes on",
                stacklevel=2,
            )
        self.saved_at = time.perf_counter()


def restore(trainer: Trainer, checkpoint: Checkpoint | None) -> None:
    """Restore the saved state, if there is one: the first process's, in each."""
    saved = checkpoint.load() if checkpoint else None
    arrays, record = saved or ({}, None)
    if (record := processes.of_first(record)) is None:
        return
    arrays = processes.arrays_of_first(arrays)
    settings = _settings(trainer)
    if differ := differences(record["of"], settings):
        is_plain = record["of"].get("sampler") == PLAIN != settings["sampler"]
        remedy = " (STN_JAX_CPU=off leaves the kernel out)" if is_plain else ""
        where = checkpoint.folder.path / checkpoint.name if checkpoint else "the folder"
        raise ConfigError(
            f"{where} holds the state of another training: there, {differ}{remedy}"
        )
    state = {"params": trainer.state.params, "optimizer": trainer.state.opt_state}
    state = _with_arrays(state, arrays)
    trainer.rows = record["rows"]
    trainer.place(state["params"], state["optimizer"], trainer.rows[-1]["step"])
    trainer.recorded = [*arrays["recorded"]]
    for index, of_seed in enumerate(record["best"]):
        like = state_of(trainer.state.params, index)
        for rank, (at, error) in enumerate(of_seed):
            name = f"best-{index}-{rank}"
            params = _with_arrays({name: like}, arrays)[name]
            trainer.best[index].append(Kept(at, error, params))
    trainer.began -= record["seconds"]


def save(trainer: Trainer, checkpoint: Checkpoint | None) -> None:
    """Save all that is needed to continue: the first process does.

    The place in the data follows from the step and the seeds.
    """
    state = trainer.state.params, trainer.state.opt_state
    params, opt_state = to_host(trainer.mesh, state)
    if checkpoint is None:
        return
    arrays = _by_name({"params": params, "optimizer": opt_state})
    arrays["recorded"] = np.stack(trainer.recorded)
    for index, of_seed in enumerate(trainer.best):
        for rank, kept in enumerate(of_seed):
            arrays |= _by_name({f"best-{index}-{rank}": kept.params})
    best = [[(k.step, k.validation_error) for k in of] for of in trainer.best]
    record = {"rows": trainer.rows, "best": best, "seconds": trainer.seconds()}
    checkpoint.save(trainer.step, arrays, record | {"of": _settings(trainer)})


def _settings(trainer: Trainer) -> dict[str, Any]:
    """What two trainings with the same results have in common."""
    settings = settings_of(trainer.config)
    del settings["models"], settings["seed"]
    return settings | {
        "model": trainer.spec.name,
        "seeds": [*trainer.seeds],
        "data": trainer.data_sha256,
        "sampler": sampler(),
    }


def _by_name(tree: Any) -> dict[str, np.ndarray]:
    """The leaves of a tree by their paths."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def _with_arrays(tree: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """A tree of the same structure, with the arrays of these paths as leaves."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: arrays[jax.tree_util.keystr(path)].astype(leaf.dtype), tree
    )

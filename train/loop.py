"""The training loop: deterministic, given the configuration and the data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from . import processes
from .configs import Config
from .data import Dataset
from .errors import Diverged
from .interruption import Interruption
from .saving import Saver, restore
from .specs import ModelSpec
from .storage.checkpoints import Checkpoint
from .trained import Row, Trained
from .trainer import Trainer


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
        up to a restored state are reported again. Of several processes, which all call
        this function, only the first has one.
      trace: the folder for a profile of ``config.profile`` steps.

    Returns:
      One trained model per seed.

    Raises:
      ConfigError: the checkpoint belongs to another configuration or other data.
      Diverged: a loss or a parameter is no longer finite.
      Stopped: a signal has arrived, and the state was saved to the checkpoint.
      OutOfMemory: a device has too little memory for a step.
      Lost: another process no longer answers.
    """
    seeds = (config.seed,) if seeds is None else tuple(seeds)
    with processes.watched(f"a step of {config.batch_size:,} images"):
        return _fit(config, spec, data, on_row, seeds, checkpoint, trace)


def _fit(
    config: Config,
    spec: ModelSpec,
    data: Dataset,
    on_row: Callable[[Row], None],
    seeds: Sequence[int],
    checkpoint: Checkpoint | None,
    trace: Path | None,
) -> list[Trained]:
    trainer = Trainer(config, spec, data, seeds)
    if checkpoint is None and not processes.are_several():
        for row in trainer.advance(trace):
            on_row(row)
        return trainer.trained()
    restore(trainer, checkpoint)
    for row in trainer.rows:
        on_row(row)
    with Interruption() as interruption:
        saver = Saver(trainer, checkpoint, 60 * config.checkpoint_minutes)
        try:
            for row in trainer.advance(trace):
                on_row(row)
                if row["seed"] == seeds[-1]:
                    saver.save_if_needed(interruption.signal)
        except Diverged as error:
            raise Diverged(f"{error} {saver.last_state}") from None
    return trainer.trained()

"""What each program of a training takes: the data, and the indices of its images.

Data that fit stay on the device. Others are read for each step by Grain, in threads and
a few steps ahead. Which images a step takes follows from its number, so that a training
can go on at any step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from .configs import Config
from .data import Dataset
from .errors import ConfigError
from .steps import Batch, batch_indices

LARGEST = 4e9  # bytes of images that stay on the device
THREADS, AHEAD = 8, 16  # of Grain: threads, and steps that are read ahead


class Work(NamedTuple):
    """What a program takes."""

    last: int
    """The number of its last step."""
    chosen: np.ndarray
    """Indices ``(S, rows, batch_size)`` in the data, for each seed and step."""
    data: Batch


class Resident:
    """Data on the device.

    Args:
      config: the settings.
      data: the dataset.
      seeds: of the trainings in parallel.
      rows: steps of a program at most; the rows of shorter ones are filled with zeros,
        so that there is one program.
    """

    def __init__(
        self, config: Config, data: Dataset, seeds: Sequence[int], rows: int
    ) -> None:
        self.config, self.seeds, self.rows = config, seeds, rows
        self.data = Batch(*map(jnp.asarray, data.train))

    def until(self, step: int, last: int) -> Iterator[Work]:
        """What the programs of the steps after ``step`` take, up to number ``last``."""
        for first in range(step, last, self.rows):
            end = min(first + self.rows, last)
            yield Work(end, self._chosen(first, end), self.data)

    def _chosen(self, first: int, end: int) -> np.ndarray:
        n, size = len(self.data.labels), self.config.batch_size
        chosen = np.zeros((len(self.seeds), self.rows, size), np.int32)
        for of_seed, seed in zip(chosen, self.seeds, strict=True):
            for row, step in enumerate(range(first, end)):
                of_seed[row] = batch_indices(n, size, seed, step)
        return chosen


class Streamed:
    """Data that are read for each step, from the step ``step`` on.

    Raises:
      ConfigError: Grain is not installed.
    """

    def __init__(
        self, config: Config, data: Dataset, seeds: Sequence[int], step: int
    ) -> None:
        try:
            import grain
        except ImportError:
            raise ConfigError(
                f"{data.name} is too large to stay on the device; reading it for each "
                "step needs Grain: pip install grain"
            ) from None
        self.config, self.split, self.seeds = config, data.train, seeds
        steps = grain.MapDataset.range(step, config.steps).map(self._work)
        options = grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=AHEAD)
        self.work = iter(steps.to_iter_dataset(options))

    def until(self, step: int, last: int) -> Iterator[Work]:
        """What the programs of the steps after ``step`` take, up to number ``last``."""
        for _ in range(step, last):
            yield next(self.work)

    def _work(self, step: int) -> Work:
        """The images of a step, one seed's after the other's."""
        n, size = len(self.split.labels), self.config.batch_size
        chosen = [batch_indices(n, size, seed, int(step)) for seed in self.seeds]
        parts: Any = [np.concatenate([x[at] for at in chosen]) for x in self.split]
        at = np.arange(len(self.seeds) * size, dtype=np.int32)
        return Work(int(step) + 1, at.reshape(-1, 1, size), Batch(*parts))


def is_large(images: np.ndarray) -> bool:
    """Whether images are not to stay on the device."""
    return isinstance(images, np.memmap) or images.nbytes > LARGEST

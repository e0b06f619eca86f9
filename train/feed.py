"""What each program of a training takes: the data, and the indices of its images.

Data that fit stay on the device. Others are read for each step by Grain, in threads and
a few steps ahead: each process reads the images of its own devices. Which images a step
takes follows from its number, so that a training can go on at any step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from .configs import Config
from .data import Dataset, Split
from .devices import BATCH, BY_IMAGE, EVERYWHERE, SEED, put, sharding_of
from .errors import ConfigError
from .steps import Batch, batch_indices

LARGEST = 4e9  # bytes of images that stay on the device
THREADS, AHEAD = 8, 16  # of Grain: threads, and steps that are read ahead


CHOSEN = P(SEED, None, BATCH)


class Work(NamedTuple):
    """What a program takes."""

    last: int
    """The number of its last step."""
    chosen: jax.Array
    """Indices ``(S, rows, batch_size)`` in a device's data, for each seed and step."""
    data: Batch


def feed_spec(data: Dataset) -> P:
    """How the data that programs take lie on the devices."""
    return BY_IMAGE if is_large(data.train.images) else EVERYWHERE


class Resident:
    """Data on every device.

    Args:
      config: the settings.
      data: the dataset.
      seeds: of the trainings in parallel.
      mesh: the devices.
      rows: steps of a program at most; the rows of shorter ones are filled with zeros,
        so that there is one program.
    """

    def __init__(
        self,
        config: Config,
        data: Dataset,
        seeds: Sequence[int],
        mesh: Mesh,
        rows: int,
    ) -> None:
        self.config, self.seeds, self.mesh, self.rows = config, seeds, mesh, rows
        self.count = len(data.train.labels)
        self.data = Batch(*put(mesh, EVERYWHERE, tuple(data.train)))

    def until(self, step: int, last: int) -> Iterator[Work]:
        """What the programs of the steps after ``step`` take, up to number ``last``."""
        for first in range(step, last, self.rows):
            end = min(first + self.rows, last)
            chosen = put(self.mesh, CHOSEN, self._chosen(first, end))
            yield Work(end, chosen, self.data)

    def _chosen(self, first: int, end: int) -> np.ndarray:
        size = self.config.batch_size
        chosen = np.zeros((len(self.seeds), self.rows, size), np.int32)
        for of_seed, seed in zip(chosen, self.seeds, strict=True):
            for row, step in enumerate(range(first, end)):
                of_seed[row] = batch_indices(self.count, size, seed, step)
        return chosen


class Streamed:
    """Data that are read for each step, from the step ``step`` on.

    Raises:
      ConfigError: Grain is not installed.
    """

    def __init__(
        self,
        config: Config,
        data: Dataset,
        seeds: Sequence[int],
        mesh: Mesh,
        step: int,
    ) -> None:
        try:
            import grain
        except ImportError:
            raise ConfigError(
                f"{data.name} is too large to stay on the device; reading it for each "
                "step needs Grain: pip install grain"
            ) from None
        self.config, self.split, self.seeds, self.mesh = config, data.train, seeds, mesh
        rows = len(seeds) * config.batch_size
        self.sharding = sharding_of(mesh, BY_IMAGE)
        # the rows of this process's devices, of an array of all
        own = self.sharding.addressable_devices_indices_map((rows,)).values()
        self.own = {at.start or 0: at for (at,) in filter(None, own)}
        self.chosen = put(mesh, CHOSEN, self._within_devices())
        steps = grain.MapDataset.range(step, config.steps).map(self._read)
        options = grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=AHEAD)
        self.parts = iter(steps.to_iter_dataset(options))

    def until(self, step: int, last: int) -> Iterator[Work]:
        """What the programs of the steps after ``step`` take, up to number ``last``."""
        for number in range(step + 1, last + 1):
            yield Work(number, self.chosen, self._placed(next(self.parts)))

    def _within_devices(self) -> np.ndarray:
        """Where a device's data have the images that it takes: ``(S, 1, batch_size)``.

        They hold its share of one seed's batch after the other.
        """
        seeds, size = len(self.seeds), self.config.batch_size
        groups, devices = self.mesh.devices.shape
        share = np.arange(seeds // groups * size // devices, dtype=np.int32)
        share = share.reshape(seeds // groups, 1, size // devices)
        return np.tile(share, (groups, 1, devices))

    def _read(self, step: int) -> dict[int, Split]:
        """The images and labels of a step for each device of this process."""
        n, size = len(self.split.labels), self.config.batch_size
        chosen = [batch_indices(n, size, seed, int(step)) for seed in self.seeds]
        groups, devices = self.mesh.devices.shape
        order = np.stack(chosen).reshape(groups, -1, devices, size // devices)
        order = order.transpose(0, 2, 1, 3).reshape(-1)
        return {
            first: Split(*(x[order[rows]] for x in self.split))
            for first, rows in self.own.items()
        }

    def _placed(self, parts: dict[int, Split]) -> Batch:
        """A step's images and labels on the devices."""
        rows = len(self.seeds) * self.config.batch_size

        def place(index: int) -> jax.Array:
            shape = (rows, *self.split[index].shape[1:])

            def of_device(at: Any) -> np.ndarray:
                return parts[at[0].start or 0][index]

            return jax.make_array_from_callback(shape, self.sharding, of_device)

        return Batch(*map(place, range(len(self.split))))


def is_large(images: np.ndarray) -> bool:
    """Whether images are not to stay on the device."""
    return isinstance(images, np.memmap) or images.nbytes > LARGEST

"""A small data set of the kind that users have: distorted once, and never anew.

It writes the first digits of MNIST, distorted as in one of the paper's tasks, to an
.npz file for ``python -m train run plain --dataset FILE.npz``::

    python -m benchmarks.small_data --data-dir DIR --out small.npz
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from train.configs import Task
from train.data import Split, load
from train.evaluate import fixed_examples

SEEDS = {"train": 1, "test": 2}


@dataclass(frozen=True)
class Options:
    """Write a small data set of distorted digits."""

    data_dir: Path
    """Folder with MNIST's four files."""
    out: Path
    """The .npz file to write."""
    task: Task = "rts"
    """How the digits are distorted, as of train run --task."""
    images: int = 5_000
    """Number of training images; there are 10,000 test images."""


def main(options: Options) -> None:
    """Write the file."""
    data = load("mnist", options.data_dir)
    few = Split(*(x[: options.images] for x in data.train))
    arrays = {}
    for part, split in (("train", few), ("test", data.test)):
        images, labels = fixed_examples(split, options.task, SEEDS[part])
        arrays[f"x_{part}"] = np.rint(255 * images).astype(np.uint8)
        arrays[f"y_{part}"] = labels
    np.savez_compressed(options.out, **arrays)
    shapes = {name: array.shape for name, array in arrays.items()}
    print(f"{options.out}: {shapes}")


if __name__ == "__main__":
    main(tyro.cli(Options))

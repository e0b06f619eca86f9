"""What the windows of trained models hold: ``python -m benchmarks.parts MODEL ...``.

The paper's figure 3 shows that of two windows on birds, one finds heads and the other
bodies. In the images of the task ``parts`` the places of both are known. A window holds
a part if the part's center lies in it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

from train.data import Split, load
from train.errors import ConfigError
from train.evaluate import CHUNK, TEST_KEY
from train.parts import PARTS, SIDE, scenes
from train.storage.artifacts import circumstances
from train.storage.files import write_file
from train.storage.weights import load_model
from train.tasks import as_floats
from train.transformers import WindowSTN
from train.window_networks import SCALE

from . import report


@dataclass(frozen=True)
class Options:
    """Count the parts that windows hold, on all test images."""

    models: tyro.conf.Positional[tuple[Path, ...]]
    """Folders with the weights of models with windows, trained on the task parts."""
    data_dir: Path | None = None
    """Folder with MNIST's four files. Without it, MNIST is downloaded."""
    out: Path = Path("runs/windows-parts.json")
    """File for the counts, JSON."""


def main(options: Options) -> None:
    """Count, print and write the rows."""
    test = load("mnist", options.data_dir).test
    rows = [row for path in options.models for row in rows_of(path, test)]
    for row in rows:
        print(row)
    command = report.command("benchmarks.parts")
    document = {"rows": rows, **circumstances(), "command": command}
    text = json.dumps(document, indent=1) + "\n"
    write_file(options.out, lambda path: path.write_text(text))


def rows_of(path: Path, test: Split) -> list[dict[str, Any]]:
    """For each window, the shares of the images in which it holds head and body."""
    model, card = load_model(path)
    if not isinstance(model, WindowSTN) or card.config["task"] != "parts":
        raise ConfigError(f"{path} is no model with windows, trained on the task parts")
    localize = jax.jit(model.localize)
    held, moved = [], []
    for start in range(0, len(test.labels), CHUNK):
        images, centers = _chunk(test, start)
        windows = np.asarray(localize(images)) * SIDE / 2  # (n, B, 2), in pixels
        held.append(holds(windows, centers))
        moved.append(windows)
    shares = np.concatenate(held, axis=1).mean(axis=1)  # (n, 2)
    spread = np.concatenate(moved, axis=1).std(axis=1)
    all_parts = np.concatenate(held, axis=1).any(axis=0).all(axis=-1).mean()
    return [
        {
            "model": card.model,
            "seed": card.config["seed"],
            "window": index,
            **{
                part: round(100 * float(s), 2)
                for part, s in zip(PARTS, of, strict=True)
            },
            "moves": [round(float(x), 2) for x in spread[index]],
            "both_held_by_some": round(100 * float(all_parts), 2),
        }
        for index, of in enumerate(shares)
    ]


def holds(windows: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """Whether windows hold parts: ``(n, B, parts)``.

    Args:
      windows: their centers ``(n, B, 2)``, (x, y) in pixels from the image's middle.
      centers: those of the parts ``(B, parts, 2)``, in the same units.
    """
    apart = np.abs(windows[:, :, None] - centers[None])
    return (apart <= SCALE * SIDE / 2).all(axis=-1)


def _chunk(test: Split, start: int) -> tuple[jax.Array, np.ndarray]:
    """The test images from an index on, as evaluations draw them, and the places."""
    at = slice(start, start + CHUNK)
    key = jax.random.fold_in(jax.random.key(TEST_KEY), start)
    images, _, centers = _scenes(key, test.images[at], test.labels[at])
    return images, np.asarray(centers)


@jax.jit
def _scenes(key: jax.Array, images: jax.Array, labels: jax.Array) -> Any:
    return scenes(key, as_floats(images), labels)


if __name__ == "__main__":
    main(tyro.cli(Options))

"""The test error of the PyTorch tutorial's network, trained in PyTorch.

For ours: ``python -m train run tutorial --data-dir DIR --seed SEED``.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import tyro

from train.data import load_mnist

from . import report
from .torch_networks import tutorial


@dataclass(frozen=True)
class Options:
    """Train the tutorial's network in PyTorch, as the tutorial does."""

    data_dir: Path
    """Folder with MNIST's four files."""
    epochs: int = 20
    """Passes over the training images."""
    seeds: int = 3
    """Number of trainings, with seeds 0, 1, ..."""
    out: Path = Path("runs/tutorial-torch.json")
    """File for the test errors, JSON."""


def main(options: Options) -> None:
    """Train, print and write the test errors."""
    data = load_mnist(options.data_dir)
    train = _tensors(data.train.images, data.train.labels)
    test = _tensors(data.test.images, data.test.labels)
    runs = []
    for seed in range(options.seeds):
        start = time.perf_counter()
        errors = fit(train, test, options.epochs, seed)
        seconds = round(time.perf_counter() - start, 1)
        runs.append({"seed": seed, "test_error": errors, "seconds": seconds})
        print(f"seed {seed}: {errors[-1]:.2f}% after {options.epochs} epochs")
    document = {
        "command": report.command("benchmarks.tutorial"),
        "date": report.today(),
        "versions": {name: report.version(name) for name in ("torch", "numpy")},
        "runs": runs,
    }
    report.write(options.out, json.dumps(document, indent=2) + "\n")
    print(f"test errors: {options.out}")


def _tensors(
    images: np.ndarray, labels: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tensors with channels first, normalized as in the tutorial."""
    pixels = torch.from_numpy(images.astype(np.float32) / 255).permute(0, 3, 1, 2)
    return (pixels - 0.1307) / 0.3081, torch.from_numpy(labels.astype(np.int64))


def fit(
    train: tuple[torch.Tensor, torch.Tensor],
    test: tuple[torch.Tensor, torch.Tensor],
    epochs: int,
    seed: int,
) -> list[float]:
    """Test error in percent after each epoch of SGD (rate 0.01, batches of 64)."""
    torch.manual_seed(seed)
    model = tutorial()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    errors = []
    for _ in range(epochs):
        model.train()
        for index in torch.randperm(len(train[1])).split(64):
            optimizer.zero_grad()
            F.cross_entropy(model(train[0][index]), train[1][index]).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            guesses = [model(x).argmax(dim=1) for x in test[0].split(500)]
        wrong = torch.cat(guesses) != test[1]
        errors.append(round(100 * wrong.double().mean().item(), 4))
    return errors


if __name__ == "__main__":
    main(tyro.cli(Options))

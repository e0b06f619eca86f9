"""What an experiment is: its settings, and those of the paper by name."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro


class ConfigError(ValueError):
    """A configuration that cannot be trained; says which setting, and why."""


Model = Literal["cnn", "st_cnn-affine", "st_cnn-tps"]
Network = Literal["lean", "paper"]
DistortionName = Literal["none", "r", "rts"]


@dataclass(frozen=True)
class Config:
    """One experiment: models trained alike, one after the other, on the same data."""

    models: tuple[Model, ...]
    """What to train."""
    distortion: DistortionName
    """Of every training image anew in every step, and of the test images once:
    r = rotated, rts = rotated, scaled, translated; none for images that already are."""
    dataset: Annotated[str, tyro.conf.arg(metavar="digits|mnist|FILE.npz")] = "mnist"
    """digits needs no download; FILE.npz holds x_train, y_train, x_test and y_test."""
    data_dir: Path | None = None
    """Folder with MNIST's four files; without it they are downloaded."""
    network: Network = "lean"
    """lean: strided convolutions, fast on a CPU; paper: as in appendix A.4."""
    parameters: int = 200_000
    """Each model is as wide as fits into so many parameters."""
    steps: int = 5_000
    """Training steps."""
    batch_size: int = 128
    """Images in a step."""
    learning_rate: float = 2e-3
    """Of Adam, at its peak: a warmup over 5% of the steps, then a cosine to zero."""
    localization_learning_rate: float = 1e-3
    """The same for the localization network and the layer that predicts theta."""
    seed: int = 0
    """Of the weights, the order of the images and their distortions. The test set's
    distortion is the same under every seed."""
    eval_every: int = 500
    """Steps between evaluations on the whole test set."""
    out: Path | None = None
    """Folder for the results; runs/NAME by default."""
    overwrite: bool = False
    """Replace the results of an earlier run in the same folder."""

    def __post_init__(self) -> None:
        for name in ("parameters", "steps", "batch_size", "eval_every"):
            if (value := getattr(self, name)) < 1:
                raise ConfigError(f"{name} must be at least 1; got {value}")
        for name in ("learning_rate", "localization_learning_rate"):
            if not 0 <= (value := getattr(self, name)) < math.inf:
                raise ConfigError(f"{name} must be 0 or more; got {value}")
        if not 0 <= self.seed < 2**31:
            raise ConfigError(f"seed must be from 0 to 2**31 - 1; got {self.seed}")
        if not self.models or len(set(self.models)) < len(self.models):
            raise ConfigError(f"models must be different ones; got {self.models}")


ALL: tuple[Model, ...] = ("cnn", "st_cnn-affine", "st_cnn-tps")

R = Config(models=ALL, distortion="r")
RTS = Config(models=ALL, distortion="rts")

CONFIGS: dict[str, tuple[str, Config]] = {
    "demo": (
        "CNN and ST-CNN side by side on RTS-distorted digits, in minutes",
        replace(RTS, models=("cnn", "st_cnn-affine"), dataset="digits", steps=1_500),
    ),
    "r": ("R, digits rotated by up to 90 degrees: all three models", R),
    "r-cnn": ("R, the CNN without a transformer", replace(R, models=("cnn",))),
    "r-st_cnn-affine": (
        "R, the CNN behind an affine transformer",
        replace(R, models=("st_cnn-affine",)),
    ),
    "r-st_cnn-tps": (
        "R, the CNN behind a 16-point thin plate spline",
        replace(R, models=("st_cnn-tps",)),
    ),
    "rts": ("RTS, rotated, scaled and translated on 42x42: all three models", RTS),
    "rts-cnn": ("RTS, the CNN without a transformer", replace(RTS, models=("cnn",))),
    "rts-st_cnn-affine": (
        "RTS, the CNN behind an affine transformer",
        replace(RTS, models=("st_cnn-affine",)),
    ),
    "rts-st_cnn-tps": (
        "RTS, the CNN behind a 16-point thin plate spline",
        replace(RTS, models=("st_cnn-tps",)),
    ),
}

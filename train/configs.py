"""What an experiment is: its settings, and those of the paper by name."""

from __future__ import annotations

import math
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import tyro


class ConfigError(ValueError):
    """A configuration that cannot be trained; says which setting, and why."""


Task = Literal[
    "plain",
    "tutorial",
    "patch",
    "r",
    "rts",
    "p",
    "pxy",
    "e",
    "tc",
    "addition",
    "3d30",
    "3d60",
]
Model = Literal[
    "fcn",
    "cnn",
    "st_fcn-affine",
    "st_fcn-projective",
    "st_fcn-tps",
    "st_cnn-affine",
    "st_cnn-projective",
    "st_cnn-tps",
    "2xst_fcn-affine",
    "2xst_fcn-projective",
    "2xst_fcn-tps",
    "multi_st_cnn-affine",
]
# settings that do not change what is computed
WITHOUT_MEANING = ("out", "overwrite", "resume", "animate", "data_dir")
# settings that no schedule tells
BESIDE_SCHEDULE = ("clip", "outside_penalty", "bound", "elastic")
Network = Literal["lean", "deep", "paper", "tutorial"]
Schedule = Literal["fast", "paper", "tutorial"]

SCHEDULES: dict[Schedule, dict[str, Any]] = {
    "fast": {
        "steps": 5_000,
        "batch_size": 128,
        "learning_rate": 2e-3,
        "localization_learning_rate": 1e-3,
    },
    "paper": {
        "steps": 150_000,
        "batch_size": 256,
        "learning_rate": 1e-2,
        "localization_learning_rate": 1e-2,
    },
    "tutorial": {
        "steps": 18_760,  # 20 epochs of 938 batches
        "batch_size": 64,
        "learning_rate": 1e-2,
        "localization_learning_rate": 1e-2,
    },
}

# what the experiments of a task are trained with beside their schedule: of two
# transformers side by side one loses its digit without
GUARDS: dict[Task, dict[str, Any]] = {"addition": {"outside_penalty": 1.0}}


@dataclass(frozen=True)
class Config:
    """One experiment: models trained alike, one after the other, on the same data."""

    models: tuple[Model, ...]
    """What to train."""
    task: Task
    """What is made of the digits, of every training image anew in every step, of the
    test images once. r: rotated; rts: rotated, scaled, translated; p: seen in
    perspective, their corners moved along the diagonals; pxy: these moved along x and
    y; e: warped elastically; tc: translated, in clutter; addition: two, to be
    added; 3d30, 3d60: in a volume of so many voxels each way; patch: as in a patch of a
    cluttered image, for the encoder of the co-localization; plain: images as they are;
    tutorial: these, normalized as in PyTorch's."""
    dataset: Annotated[str, tyro.conf.arg(metavar="digits|mnist|FILE.npz")] = "mnist"
    """digits needs no download; FILE.npz holds x_train, y_train, x_test and y_test."""
    data_dir: Path | None = None
    """Folder with MNIST's four files; without it they are downloaded."""
    network: Network = "lean"
    """lean: strided convolutions, fast on a CPU; deep: one more, and poolings, at 2.5
    times the time; paper: as in appendix A.4; tutorial: PyTorch's."""
    parameters: int = 400_000
    """Each model is as wide as fits into so many parameters."""
    schedule: Schedule = "fast"
    """fast: Adam, a warmup over 5% of the steps, then a cosine to zero. paper: SGD with
    momentum, a tenth of the learning rate after each third. tutorial: plain SGD. It
    also sets the defaults of the steps, the batch and the learning rates."""
    steps: int = SCHEDULES["fast"]["steps"]
    """Training steps."""
    batch_size: int = SCHEDULES["fast"]["batch_size"]
    """Images in a step."""
    learning_rate: float = SCHEDULES["fast"]["learning_rate"]
    """At its peak."""
    localization_learning_rate: float = SCHEDULES["fast"]["localization_learning_rate"]
    """The same for the localization network and the layer that predicts theta."""
    clip: float | None = None
    """The largest norm of the gradient of all that predicts theta; None: any."""
    outside_penalty: float = 0.0
    """Weight in the loss of how far, squared, the grid reaches beyond the image."""
    bound: float | None = None
    """How far a parameter of theta gets from the identity's: bound tanh(x / bound);
    None: anywhere."""
    elastic: float = 0.0
    """Training digits are warped by a spline beside their distortion, as in E, by a
    normal of so many pixels; test digits are not."""
    seed: int = 0
    """Of the weights, the order of the images and their distortions. The test set's
    distortion is the same under every seed."""
    eval_every: int = 500
    """Steps between evaluations on the whole test set."""
    out: Path | None = None
    """Folder for the results; runs/NAME by default."""
    overwrite: bool = False
    """Replace the results of an earlier run in the same folder."""
    resume: bool = False
    """Go on with a run that was stopped in the same folder."""
    animate: bool = False
    """Draw a GIF of where each transformer looked as training went on."""

    def __post_init__(self) -> None:
        for name in ("parameters", "steps", "batch_size", "eval_every"):
            if (value := getattr(self, name)) < 1:
                raise ConfigError(f"{name} must be at least 1; got {value}")
        rates = ("learning_rate", "localization_learning_rate")
        for name in (*rates, "outside_penalty", "elastic"):
            if not 0 <= (value := getattr(self, name)) < math.inf:
                raise ConfigError(f"{name} must be 0 or more; got {value}")
        for name in ("clip", "bound"):
            if (value := getattr(self, name)) is not None and not value > 0:
                raise ConfigError(f"{name} must be more than 0; got {value}")
        if not 0 <= self.seed < 2**31:
            raise ConfigError(f"seed must be from 0 to 2**31 - 1; got {self.seed}")
        if not self.models or len(set(self.models)) < len(self.models):
            raise ConfigError(f"models must be different ones; got {self.models}")
        if self.overwrite and self.resume:
            raise ConfigError("overwrite and resume exclude each other")


@dataclass(frozen=True)
class Colocalization:
    """Find what images of one class have in common, without labels (appendix A.2)."""

    digits: tuple[int, ...] = tuple(range(10))
    """The classes, each for itself."""
    clutter: tuple[int, ...] = (0, 16)
    """Pieces of other digits, 6x6, in each image: one experiment for each number."""
    dataset: Annotated[str, tyro.conf.arg(metavar="digits|mnist|FILE.npz")] = "mnist"
    """As of the other experiments."""
    data_dir: Path | None = None
    """Folder with MNIST's four files; without it they are downloaded."""
    images: int = 100
    """Of each class."""
    steps: int = 1_500
    """Training steps for each class."""
    batch_size: int = 32
    """Images in a step, and as many others that each is paired with."""
    learning_rate: float = 1e-3
    """Of Adam, a cosine to zero."""
    starts: int = 3
    """With other weights and an encoder of its own each; the one of whose patches the
    encoder is surest is kept."""
    jitter: int = 8
    """Pixels by which each image is moved at most, anew in every step: so the digit has
    to be followed; a place learnt by heart does not do."""
    margin: float = 1.0
    """By which two patches should be more alike than a patch and a random one."""
    encoder_steps: int = 2_000
    """Training steps of an encoder, a CNN on digits as in patches."""
    encoder_parameters: int = 400_000
    """Its size."""
    seed: int = 0
    """Of the weights, the places of the digits and the clutter."""
    out: Path | None = None
    """Folder for the results; runs/NAME by default."""
    overwrite: bool = False
    """Replace the results of an earlier run in the same folder."""
    resume: bool = False
    """Go on with a run that was stopped in the same folder."""

    def __post_init__(self) -> None:
        whole = ("steps", "batch_size", "starts", "encoder_steps", "encoder_parameters")
        for name in whole:
            if (value := getattr(self, name)) < 1:
                raise ConfigError(f"{name} must be at least 1; got {value}")
        if self.images < 2:
            raise ConfigError(f"images must be at least 2; got {self.images}")
        if self.jitter < 0:
            raise ConfigError(f"jitter must be 0 or more; got {self.jitter}")
        if not self.digits or not self.clutter:
            raise ConfigError("digits and clutter must not be empty")
        if min(self.digits) < 0 or min(self.clutter) < 0:
            raise ConfigError("digits and clutter must not be negative")


def meaning(config: Config | Colocalization) -> dict[str, Any]:
    """The settings that determine what is computed."""
    settings = asdict(config)
    return {k: value for k, value in settings.items() if k not in WITHOUT_MEANING}


def complete(stored: dict[str, Any]) -> dict[str, Any]:
    """The settings of a result; those that there were not yet, at their defaults."""
    return {
        field.name: field.default
        for field in fields(Config)
        if field.default is not MISSING
    } | stored


def scheduled(config: Config, schedule: Schedule) -> Config:
    """The configuration under another schedule, with the steps and rates of that."""
    return replace(config, schedule=schedule, **SCHEDULES[schedule])


DISTORTED: tuple[Model, ...] = tuple(
    model for model in get_args(Model) if not model.startswith(("2x", "multi"))
)
ADDING: tuple[Model, ...] = tuple(
    model for model in get_args(Model) if "st_cnn" not in model
)
IN_VOLUMES: tuple[Model, ...] = ("cnn", "st_cnn-affine")

TASKS: dict[Task, tuple[str, tuple[Model, ...]]] = {
    "r": ("rotated by up to 90 degrees", DISTORTED),
    "rts": ("rotated, scaled and translated on 42x42", DISTORTED),
    "p": ("in perspective, their corners stretched by 5 pixels", DISTORTED),
    "e": ("warped by a thin plate spline of 16 points", DISTORTED),
    "tc": ("translated on 60x60, among pieces of others", DISTORTED),
    "addition": ("two of them, rts, to be added", ADDING),
    "3d60": ("extruded, turned, in 60x60x60", IN_VOLUMES),
}

_KINDS = {
    "fcn": "fully connected",
    "cnn": "the convolutional network",
    "st_fcn": "fully connected behind a transformer",
    "st_cnn": "the CNN behind a transformer",
    "2xst_fcn": "fully connected behind two transformers side by side",
    "multi_st_cnn": "transformers before both convolutions and behind",
}
_SUMMARY: tuple[Model, ...] = ("cnn", "st_cnn-affine", "st_cnn-tps")


def _named() -> dict[str, tuple[str, Config | Colocalization]]:
    named: dict[str, tuple[str, Config | Colocalization]] = {
        "demo": (
            "CNN and ST-CNN side by side on RTS-distorted digits, in minutes",
            Config(
                models=("cnn", "st_cnn-affine"),
                task="rts",
                dataset="digits",
                parameters=200_000,
                steps=1_500,
            ),
        )
    }
    for task, (what, models) in TASKS.items():
        name = task.rstrip("06") if task.startswith("3d") else task
        some: tuple[Model, ...] = tuple(m for m in _SUMMARY if m in models)
        if task == "addition":
            some = ("fcn", "cnn", *models[-3:])
        guards = GUARDS.get(task, {})
        named[name] = f"digits {what}: {', '.join(some)}", Config(some, task, **guards)
        for model in models:
            kind, *transform = model.split("-")
            text = f"digits {what}: {_KINDS[kind]}"
            text += f" ({transform[0]})" if transform else ""
            named[f"{name}-{model}"] = text, Config((model,), task, **guards)
    named["rts-multi_st_cnn-affine"] = (
        f"digits {TASKS['rts'][0]}: {_KINDS['multi_st_cnn']}",
        Config(("multi_st_cnn-affine",), "rts"),
    )
    named["tutorial"] = (
        "plain digits: the PyTorch tutorial's network and optimizer",
        scheduled(
            Config(("st_cnn-affine",), "tutorial", network="tutorial"), "tutorial"
        ),
    )
    named["colocalization"] = (
        "what have images of one digit in common, and where? without labels",
        Colocalization(),
    )
    return named


CONFIGS: dict[str, tuple[str, Config | Colocalization]] = _named()

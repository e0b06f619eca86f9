"""The settings of experiments, as data."""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import tyro

from .errors import ConfigError
from .schedules import SCHEDULES, Schedule
from .specs import ModelOption, ModelSpec

Task = Literal[
    "plain",
    "crops",
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
    "numbers64",
    "numbers128",
    "parts",
]
Network = Literal[
    "lean", "deep", "paper", "tutorial", "svhn", "svhn_lean", "cub", "cub_lean"
]
Precision = Literal["float32", "bfloat16"]
OnNan = Literal["stop", "skip"]
DatasetOption = Annotated[
    str, tyro.conf.arg(metavar="digits|mnist|svhn|svhn_cropped|cub|FILE.npz|DIR")
]
KeysOption = Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=NAME ...")]

# with two transformers, one of them can lose its digit if there is no penalty
OUTSIDE_PENALTY: dict[Task, float] = {"addition": 1.0}

DATA_LIMIT = 8.0  # GB

# settings that do not change the results
WITHOUT_EFFECT = (
    "out",
    "overwrite",
    "resume",
    "animate",
    "data_dir",
    "data_limit",
    "cache_dir",
    "skip_bad",
    "keep",
    "checkpoint_minutes",
    "tensorboard",
    "profile",
    "devices",
    "coordinator",
    "processes",
    "process",
)
# values in force before a setting existed, where today's default is another
BEFORE: dict[str, Any] = {"validation": 0.0}


@dataclass(frozen=True, kw_only=True)
class Source:
    """Settings of the data."""

    dataset: DatasetOption = "mnist"
    """digits: embedded, no download. mnist. svhn: SVHN's house numbers, svhn_cropped:
    its single digits, and cub: CUB-200-2011's birds, from --data-dir. FILE.npz: holds
    x_train, y_train, x_test and y_test, optionally x_val, y_val and classes (names).
    DIR: a folder with images in train/CLASS/ and test/CLASS/, optionally
    validation/CLASS/."""
    data_dir: Path | None = None
    """Folder with the original files: MNIST's four, SVHN's train_32x32.mat and
    test_32x32.mat, SVHN's folders train, test and extra, or CUB_200_2011. Without it,
    MNIST is downloaded."""
    keys: KeysOption = ()
    """The names in FILE.npz, if they are others: x_train=images y_train=labels."""
    image_size: tuple[int, int] | None = None
    """Height and width of the images from DIR or of cub. Each image is scaled to fit,
    with its aspect ratio, and centered on black. Default: the size of the training
    images, or their median height and median width; of cub 224 224. Of svhn 64 64, the
    digits alone, or 128 128, a looser crop."""
    data_limit: float = DATA_LIMIT
    """Largest size of the decompressed data, in GB."""
    cache_dir: Path | None = None
    """Folder for svhn's converted images: 3 GB at 64x64 pixels, 12 GB at 128x128.
    Default: --data-dir."""
    skip_bad: bool = False
    """Leave out images of svhn, cub or DIR that cannot be used, instead of ending with
    an error. Their number and a list are printed."""

    def __post_init__(self) -> None:
        if self.image_size and min(self.image_size) < 1:
            raise ConfigError(f"image_size must be at least 1 1; got {self.image_size}")
        if not 0 < self.data_limit < math.inf:
            raise ConfigError(f"data_limit must be more than 0; got {self.data_limit}")


@dataclass(frozen=True, kw_only=True)
class Training(Source):
    """Settings that the runs of a table share."""

    network: Network = "lean"
    """lean: strided convolutions, fast on a CPU. deep: a third convolution and pooling,
    at 2 to 2.5 times the time. paper: as in appendix A.4. tutorial: as in PyTorch's
    tutorial. svhn: as in appendix A.5, for house numbers; svhn_lean: an eighth as wide.
    cub: windows as in appendix A.6, with ResNets of 50 layers; cub_lean: with small
    networks."""
    parameters: int = 400_000
    """Largest number of parameters. Each model of the networks lean, deep and paper is
    as wide as this allows; the other networks have widths of their own."""
    backbone_weights: Path | None = None
    """A .safetensors file with the weights of a ResNet-50 by torchvision's names, for
    --network cub. None: random weights."""
    precision: Precision = "float32"
    """bfloat16: convolutions and fully connected layers compute in bfloat16. Their
    parameters, the transformations and the sampling points stay float32."""
    schedule: Schedule = "fast"
    """fast: Adam, warmup over 5% of the steps, then cosine decay to zero. paper: SGD
    with momentum, a tenth of the learning rate after each third. svhn, cub: likewise,
    with the steps of appendices A.5 and A.6. tutorial: plain SGD. The schedule also
    sets the defaults of --steps, --batch-size, --weight-decay and both learning
    rates."""
    steps: int = SCHEDULES["fast"]["steps"]
    """Training steps."""
    batch_size: int = SCHEDULES["fast"]["batch_size"]
    """Images per step."""
    accumulate: int = 1
    """Parts of a batch, or of a device's share of it, whose gradients are computed one
    after the other and averaged. More parts need less memory."""
    devices: int | None = None
    """Devices that divide each batch. Default: all."""
    coordinator: str | None = None
    """HOST:PORT of process 0, when several processes train together; each is started
    with the same settings. Under SLURM's srun and on Cloud TPU it is found."""
    processes: int | None = None
    """Number of these processes, with --coordinator."""
    process: int | None = None
    """Number of this process, from 0, with --coordinator."""
    learning_rate: float = SCHEDULES["fast"]["learning_rate"]
    """Peak learning rate of the classifier."""
    localization_learning_rate: float = SCHEDULES["fast"]["localization_learning_rate"]
    """Peak learning rate of the localization networks and the layers that predict
    theta."""
    weight_decay: float = 0.0
    """This times half the square of the weights, without biases, adds to the loss."""
    clip: float | None = None
    """Clip the gradient of the localization networks and the layers that predict theta
    to this global norm. None: do not clip."""
    outside_penalty: float | None = None
    """Weight of a penalty on sampling points outside the image: the mean square of the
    amount by which grid coordinates exceed [-1, 1]. Default: 1 for addition, 0 for the
    other tasks."""
    bound: float | None = None
    """Keep each transformation parameter within this distance of the identity's, by
    bound tanh(x / bound). None: no limit."""
    elastic: float = 0.0
    """Extra augmentation: warp each training digit by a random thin plate spline before
    its distortion (Gaussian displacements, this sigma in pixels). Test digits are never
    augmented."""
    validation: float = 1 / 12
    """Share of the training images that is held out for validation, unless the dataset
    has a validation part. The state with the lowest validation error is the result,
    and is tested once. 0: train on all images; the last state is the result, and the
    test set is evaluated all along."""
    eval_every: int = 500
    """Steps between evaluations on the validation part."""
    keep: int = 1
    """Number of states whose weights are stored, those with the lowest validation
    errors. The last is stored besides."""
    on_nan: OnNan = "stop"
    """When the loss or a gradient is NaN or infinite. stop: end the run with an error.
    skip: leave out the steps, and report their number."""
    checkpoint_minutes: float = 1.0
    """Minutes between two saved states of the training. A state is also saved at its
    end, at Ctrl-C and at SIGTERM."""
    tensorboard: bool = False
    """Also write the metrics for TensorBoard. Needs the package tensorboardX."""
    profile: int = 0
    """Profile this many steps after the first ones, for TensorBoard or Perfetto."""

    def __post_init__(self) -> None:
        super().__post_init__()
        names = ("parameters", "steps", "batch_size", "eval_every", "keep")
        for name in (*names, "accumulate", "devices", "processes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1; got {value}")
        if self.process is not None and self.process < 0:
            raise ConfigError(f"process must be 0 or more; got {self.process}")
        if not 0 <= self.validation < 1:
            raise ConfigError(
                f"validation must be from 0 to less than 1; got {self.validation}"
            )
        if self.profile < 0:
            raise ConfigError(f"profile must be 0 or more; got {self.profile}")
        rates = ("learning_rate", "localization_learning_rate", "elastic")
        rates += ("checkpoint_minutes", "weight_decay")
        for name in (*rates, "outside_penalty"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ConfigError(f"{name} must be 0 or more; got {value}")
        for name in ("clip", "bound"):
            if (value := getattr(self, name)) is not None and not value > 0:
                raise ConfigError(f"{name} must be more than 0; got {value}")


SomeTraining = TypeVar("SomeTraining", bound=Training)


@dataclass(frozen=True)
class Config(Training):
    """Settings of a run: models that are trained one after the other on one task."""

    models: tuple[ModelOption, ...]
    """Models to train."""
    task: Task
    """How the digits are distorted: training images anew in each step, test images
    once. r: rotated. rts: rotated, scaled, translated. p: in perspective, corners moved
    along the diagonals. pxy: corners moved along x and y. e: warped elastically. tc:
    translated, in clutter. addition: two digits, to be added. 3d30, 3d60: in a volume
    with 30 or 60 voxels per side. numbers64, numbers128: in a house number of one to
    five digits, on 64x64 or 128x128 pixels in color. parts: two small ones in an image,
    whose class is the pair. patch: as in a patch of a cluttered image, for the encoder
    of the co-localization. plain: not distorted. crops: not distorted; 7/8 of the
    height and width, anywhere and perhaps mirrored in training, the middle in tests.
    tutorial: plain, normalized as in PyTorch's tutorial."""
    seed: int = 0
    """Seed of the weights, the order of the images and their distortions. The test
    set's distortion is the same for all seeds."""
    out: Path | None = None
    """Folder for the results. Default: runs/NAME."""
    overwrite: bool = False
    """Replace the results of an earlier run in the folder. Other files stay."""
    resume: bool = False
    """Continue a run that was stopped in the folder."""
    animate: bool = False
    """Also draw a GIF of each transformer's sampling grid during the training."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.outside_penalty is None:
            penalty = OUTSIDE_PENALTY.get(self.task, 0.0)
            object.__setattr__(self, "outside_penalty", penalty)
        if not self.models or len(set(self.models)) < len(self.models):
            names = [spec.name for spec in self.models]
            raise ConfigError(f"models must be different ones; got {names}")
        _check_seed_and_flags(self)


@dataclass(frozen=True)
class Colocalization(Source):
    """Locate what the images of one class have in common, without labels (A.2)."""

    digits: tuple[int, ...] = tuple(range(10))
    """Classes, each learnt separately."""
    clutter: tuple[int, ...] = (0, 16)
    """Numbers of distractors per image, 6x6 pixels of other digits. Each number is an
    experiment."""
    images: int = 100
    """Images per class."""
    steps: int = 1_500
    """Training steps per class."""
    batch_size: int = 32
    """Images per step, and as many again that each of them is compared with."""
    learning_rate: float = 1e-3
    """Peak learning rate of Adam, with cosine decay to zero."""
    starts: int = 3
    """Trainings per class, each with other weights and another encoder. The one whose
    encoder classifies its patches with the lowest mean entropy is kept."""
    jitter: int = 8
    """Largest random shift of each image in each step, in pixels. Without it the
    transformer can memorize the digits' places."""
    margin: float = 1.0
    """Margin of the triplet loss."""
    encoder_steps: int = 2_000
    """Training steps of an encoder, a CNN that classifies digits in patches."""
    encoder_parameters: int = 400_000
    """Largest number of parameters of an encoder."""
    seed: int = 0
    """Seed of the weights, the digits' places and the clutter."""
    out: Path | None = None
    """Folder for the results. Default: runs/NAME."""
    overwrite: bool = False
    """Replace the results of an earlier run in the folder. Other files stay."""
    resume: bool = False
    """Continue a run that was stopped in the folder."""

    def __post_init__(self) -> None:
        super().__post_init__()
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
        _check_seed_and_flags(self)


def _check_seed_and_flags(config: Config | Colocalization) -> None:
    if not 0 <= config.seed < 2**31:
        raise ConfigError(f"seed must be from 0 to 2**31 - 1; got {config.seed}")
    if config.overwrite and config.resume:
        raise ConfigError("overwrite and resume exclude each other")


def settings_of(config: Config | Colocalization) -> dict[str, Any]:
    """The settings that determine the results, as JSON stores them."""
    settings = asdict(config)
    if isinstance(config, Config):
        settings["models"] = [spec.name for spec in config.models]
        if config.backbone_weights:  # another file with the same weights is the same
            settings["backbone_weights"] = _digest_of_weights(config.backbone_weights)
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in settings.items()
        if name not in WITHOUT_EFFECT
    }


def _digest_of_weights(path: Path) -> str:
    try:
        return f"sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}"
    except OSError as error:
        raise ConfigError(
            f"--backbone-weights {path} cannot be read ({error.strerror})"
        ) from error


def with_defaults(stored: dict[str, Any]) -> dict[str, Any]:
    """A stored run's settings, and what was in force where it lacks a setting."""
    defaults = settings_of(Config((ModelSpec("fcn"),), "plain"))
    return defaults | BEFORE | stored


def config_of(settings: dict[str, Any]) -> Config:
    """The configuration of stored settings: the inverse of :func:`settings_of`.

    Raises:
      ConfigError: these are not the settings of a run.
    """
    settings = with_defaults(settings)
    for name, kind in (("task", Task), ("network", Network), ("schedule", Schedule)):
        if settings[name] not in get_args(kind):
            raise ConfigError(f"there is no {name} {settings[name]!r}")
    try:
        models = tuple(map(ModelSpec.parse, settings.pop("models")))
        fields: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()
        }
        return Config(models, **fields)
    except (TypeError, KeyError) as error:
        raise ConfigError(f"these are not the settings of a run: {error}") from error


def differences(stored: dict[str, Any], settings: dict[str, Any]) -> str:
    """How stored settings differ from others, in words; empty if they do not."""
    return ", ".join(
        f"{name} is {stored.get(name)}, not {value}"
        for name, value in settings.items()
        if str(stored.get(name)) != str(value)
    )


def scheduled(config: SomeTraining, schedule: Schedule) -> SomeTraining:
    """The settings with another schedule, and its steps, batch and learning rates."""
    defaults = {"weight_decay": 0.0} | SCHEDULES[schedule]
    return replace(config, schedule=schedule, **defaults)

"""``python -m train evaluate``: a trained model's errors on a part of a dataset."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import tyro
from flax import nnx

from ..configs import DATA_LIMIT, DatasetOption, KeysOption
from ..data import Dataset, Split, load, sha256_of, with_validation
from ..data.sources import kind_of
from ..errors import ConfigError, DataError
from ..evaluate import (
    TEST_KEY,
    VALIDATION_KEY,
    fixed_examples,
    percent_wrong,
    predict,
)
from ..initial import shapes_of_examples
from ..storage.artifacts import circumstances
from ..storage.cards import Card
from ..storage.files import check_new, check_suffix, write_file
from ..storage.weights import load_model
from ..tasks import class_names
from .columns import aligned
from .confusion import OfClass, by_class, confusion_figure, counts_of

Part = Literal["test", "validation", "train"]


@dataclass(frozen=True)
class Evaluate:
    """Measure a trained model's errors, class by class.

    The images are distorted as in the training's evaluations, so that the error on the
    same data is the same.
    """

    path: tyro.conf.Positional[Path]
    """Folder with a model's weights, or a .safetensors file."""
    part: Part = "test"
    """The part of the dataset. validation: the images that the training held out.
    train: the other training images."""
    dataset: DatasetOption | None = None
    """digits, mnist, FILE.npz or DIR, as for run. Default: the dataset of the
    training."""
    data_dir: Path | None = None
    """Folder with the original files, as for run. Without it, MNIST is downloaded."""
    keys: KeysOption = ()
    """The names in FILE.npz, if they are others: x_train=images y_train=labels."""
    image_size: tuple[int, int] | None = None
    """Height and width of the images from DIR. Default: as in the training."""
    data_limit: float = DATA_LIMIT
    """Largest size of the decompressed data, in GB."""
    cache_dir: Path | None = None
    """Folder with svhn's converted images. Default: --data-dir."""
    skip_bad: bool = False
    """Leave out images that cannot be used."""
    batch_size: int | None = None
    """Images per call of the model. Default: 500, of large images fewer."""
    out: Path | None = None
    """Write all numbers, the confusion matrix and their origin to FILE.json."""
    figure: Path | None = None
    """Draw the confusion matrix: FILE.png, FILE.pdf or FILE.svg."""
    overwrite: bool = False
    """Replace the files of --out and --figure if they exist."""

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1; got {self.batch_size}")
        check_suffix("out", self.out, ".json")
        check_suffix("figure", self.figure, ".png", ".pdf", ".svg")


class Evaluated(NamedTuple):
    """A model's predictions for the images of a part."""

    card: Card
    data: Dataset
    part: Part
    labels: np.ndarray
    """``(N,)``, or ``(N, places)`` of house numbers."""
    predictions: np.ndarray
    """In the labels' shape."""

    @property
    def error(self) -> float:
        """Misclassified images, in percent."""
        return percent_wrong(self.predictions, self.labels)

    @property
    def stored_error(self) -> float | None:
        """The error on the same images as the training reported it, if it did."""
        if not self.is_data_of_training or self.part == "train":
            return None
        return self.card.errors.get(self.part)

    @property
    def is_data_of_training(self) -> bool:
        """Whether the dataset and its parts are those of the training."""
        return sha256_of(self.data) == self.card.provenance["data"]["sha256"]


def run_evaluation(options: Evaluate) -> str:
    """Evaluate a model; return the results as text, and write what the options name.

    Raises:
      ResultsError: there is no model, or it is corrupt.
      DataError: the data is missing or corrupt, has no such part, or does not fit the
        model.
      OutputError: a file exists or cannot be written.
    """
    check_new(options.out, options.overwrite)
    check_new(options.figure, options.overwrite)
    model, card = load_model(options.path)
    data = _data(options, card)
    check_fits(data, card)
    evaluated = evaluate(model, card, data, options.part, options.batch_size)
    labels, predictions = evaluated.labels, evaluated.predictions
    labels, predictions = labels.reshape(-1), predictions.reshape(-1)  # place by place
    classes = by_class(labels, predictions, card.classes)
    counts = counts_of(labels, predictions, len(card.classes))
    if options.out:
        text = json.dumps(_document(evaluated, classes, counts), indent=2) + "\n"
        write_file(options.out, lambda path: path.write_text(text))
    if options.figure:
        title = f"{card.model}: {evaluated.error:.2f}% error, {_images(evaluated)}"
        figure = confusion_figure(counts, card.classes, title)
        write_file(options.figure, lambda path: figure.savefig(path, dpi=120))
    return f"{_heading(evaluated)}\n\n{_class_table(classes)}"


def _data(options: Evaluate, card: Card) -> Dataset:
    """The dataset that the options name, by default the training's, in its parts."""
    config = card.config
    dataset, keys, image_size = options.dataset, options.keys, options.image_size
    if dataset is None:
        dataset = config["dataset"]
        keys = keys or tuple(config.get("keys", ()))
    if image_size is None and kind_of(dataset) in ("folder", "svhn", "cub"):
        image_size = card.digit_size
    data = load(
        dataset,
        options.data_dir,
        keys=keys,
        image_size=image_size,
        limit=options.data_limit,
        cache_dir=options.cache_dir,
        skip_bad=options.skip_bad,
    )
    try:
        return with_validation(data, config["validation"])
    except ConfigError as error:  # few training images
        if options.part == "test":
            return data
        raise DataError(
            f"{data.name} has too few training images for the validation part that the "
            "model was trained with; evaluate --part test."
        ) from error


def check_fits(data: Dataset, card: Card) -> None:
    """Raise DataError unless the model can be evaluated on a dataset."""
    classes = class_names(card.config["task"], data.classes)
    if classes != card.classes:
        raise DataError(
            f"the model {card.model} predicts the classes {_listed(card.classes)}, but "
            f"{data.name} has {_listed(classes)}."
        )
    found = shapes_of_examples(card.config["task"], data)[0].shape[1:]
    if found != card.input_shape:
        raise DataError(
            f"the model {card.model} takes images of the shape {card.input_shape}, but "
            f"the task {card.config['task']!r} makes {found} of those of {data.name}."
        )


def evaluate(
    model: nnx.Module,
    card: Card,
    data: Dataset,
    part: Part,
    batch_size: int | None = None,
) -> Evaluated:
    """Predict the classes of a part's images, distorted with the part's fixed key.

    Args:
      model: the model.
      card: describes it.
      data: a dataset that fits it.
      part: which images. The training images are distorted with the test set's key, and
        without the augmentation.
      batch_size: images per call of the model; by default as many as
        :func:`images_per_call` says.

    Raises:
      DataError: the dataset has no validation part.
    """
    split = _split(data, part)
    key = VALIDATION_KEY if part == "validation" else TEST_KEY
    images, labels = fixed_examples(split, card.config["task"], key)
    graphdef, state = nnx.split(model)
    states = jax.tree.map(lambda leaf: leaf[None], state)
    (predictions,) = predict(graphdef, states, images, batch_size)
    return Evaluated(card, data, part, labels, predictions)


def _split(data: Dataset, part: Part) -> Split:
    if part == "validation":
        if data.validation is None:
            raise DataError(
                "the model was trained without a validation part (--validation 0); "
                "evaluate --part test or --part train."
            )
        return data.validation
    return data.test if part == "test" else data.train


# results


def _heading(evaluated: Evaluated) -> str:
    """What was evaluated, and the error."""
    card, stored = evaluated.card, evaluated.stored_error
    same = "the training's data" if evaluated.is_data_of_training else "other data"
    lines = [
        f"model:  {card.model} after step {card.step:,} ({card.file})",
        f"images: {_images(evaluated)}, task {card.config['task']!r} ({same})",
        f"error:  {evaluated.error:.2f}%",
    ]
    if stored is not None:
        lines[-1] += f" (in the training: {stored:.2f}%)"
    return "\n".join(lines)


def _images(evaluated: Evaluated) -> str:
    part = "training" if evaluated.part == "train" else evaluated.part
    return f"{len(evaluated.labels):,} {part} images of {evaluated.data.name}"


def _class_table(classes: Sequence[OfClass]) -> str:
    cells = [["class", "images", "error", "precision", "recall", "confused with"]]
    for of in classes:
        confused = f"{of.confused_with} ({of.confused}x)" if of.confused_with else "-"
        numbers = (of.error, of.precision, of.recall)
        percents = ("-" if n is None else f"{n:.2f}%" for n in numbers)
        cells.append([of.name, f"{of.images:,}", *percents, confused])
    return aligned(cells, "lrrrrl")


def _document(
    evaluated: Evaluated, classes: Sequence[OfClass], counts: np.ndarray
) -> dict[str, Any]:
    """All numbers, and where they come from."""
    card, data = evaluated.card, evaluated.data
    return {
        "model": card.model,
        "weights": {"file": card.file, "sha256": card.sha256, "step": card.step},
        "part": evaluated.part,
        "images": len(evaluated.labels),
        "error": evaluated.error,
        "error_in_training": evaluated.stored_error,
        "classes": [of._asdict() for of in classes],
        "confusion": counts.tolist(),
        "data": {"name": data.name, "sha256": sha256_of(data)},
        **circumstances(),
        "training": card.provenance,
    }


def _listed(classes: Sequence[str]) -> str:
    some = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
    return f"{len(classes)} ({some})"

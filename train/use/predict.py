"""``python -m train predict``: classify images, and draw where a transformer looked."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import tyro

from ..configs import DATA_LIMIT
from ..data.arrays import label_text
from ..errors import ConfigError, DataError
from ..storage.cards import Card
from ..storage.files import check_new, check_suffix, write_file
from .columns import aligned
from .exported import SUFFIX
from .inference import Prediction, Unusable, classify, load_any
from .inputs import find_inputs, normalized

if TYPE_CHECKING:
    from flax import nnx
    from matplotlib.figure import Figure

SHOWN = 10  # images in the figure
LONGEST_TITLE = 18  # characters above an image

Images = Annotated[
    tuple[Path, ...],
    tyro.conf.arg(metavar="IMAGES...", help_behavior_hint="(at least one)"),
]


@dataclass(frozen=True)
class Predict:
    """Classify images with a trained or an exported model.

    The exit status is 1 if an image cannot be used; the others are classified.
    """

    path: tyro.conf.Positional[Path]
    """Folder with a model's weights, .safetensors file, or .stablehlo file."""
    images: tyro.conf.Positional[Images]
    """Image files, folders with image files, and .npz files with an array named images,
    (N, H, W) or (N, H, W, C)."""
    resize: bool = False
    """Scale an image of another size to fit, with its aspect ratio, and center it on
    black. Without it, another size is an error."""
    batch_size: int = 100
    """Images per call of the model."""
    out: Path | None = None
    """Write the probabilities of all classes to FILE.csv or FILE.json."""
    figure: Path | None = None
    """Draw the first 10 images with the transformer's sampling grid and its output:
    FILE.png, FILE.pdf or FILE.svg."""
    overwrite: bool = False
    """Replace the files of --out and --figure if they exist."""
    data_limit: float = DATA_LIMIT
    """Largest size of an .npz file's array, in GB."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1; got {self.batch_size}")
        if not 0 < self.data_limit < math.inf:
            raise ConfigError(f"data_limit must be more than 0; got {self.data_limit}")
        check_suffix("out", self.out, ".csv", ".json")
        check_suffix("figure", self.figure, ".png", ".pdf", ".svg")
        if self.figure and self.path.suffix == SUFFIX:
            raise ConfigError(
                "figure needs the weights, which an exported model does not give: name "
                f"the model's folder or .safetensors file instead of {self.path}"
            )


def run_prediction(options: Predict) -> int:
    """Classify images, print a table, and write what the options name.

    Returns:
      The number of images that could not be used.

    Raises:
      ResultsError: there is no model, or it is corrupt.
      DataError: no images are named.
      OutputError: a file exists or cannot be written.
    """
    if not options.images:
        raise DataError("name at least one image, folder or .npz file after the model.")
    check_new(options.out, options.overwrite)
    check_new(options.figure, options.overwrite)
    model = load_any(options.path)
    inputs = find_inputs(options.images, model.card, options.data_limit)
    results, shown = [], []
    for result in classify(model, inputs, options.batch_size, options.resize):
        if isinstance(result, Unusable):
            print(f"error: {result.error}", file=sys.stderr)
        elif len(shown) < SHOWN:
            shown.append(result)
        results.append(_Row.of(result, model.card.classes))
    if shown:
        print(_table(results), flush=True)
    if options.out:
        is_csv = options.out.suffix.lower() == ".csv"
        text = (_as_csv if is_csv else _as_json)(results, model.card)
        write_file(options.out, lambda path: path.write_text(text, "utf-8", newline=""))
    if options.figure and shown and model.module is not None:
        figure = _figure(model.module, model.card, shown)
        write_file(options.figure, lambda path: figure.savefig(path, dpi=120))
    return sum(bool(row.error) for row in results)


class _Row(NamedTuple):
    """A line of the results: a prediction without its image, or an error."""

    image: str
    """The image's name."""
    likeliest: tuple[tuple[str, float], ...] = ()
    """The two likeliest classes, or numbers, and their probabilities."""
    probabilities: tuple[tuple[float, ...], ...] = ()
    """Of all classes, for each place of a label; most labels have one."""
    error: str = ""

    @staticmethod
    def of(result: Prediction | Unusable, classes: Sequence[str]) -> _Row:
        if isinstance(result, Unusable):
            return _Row(result.name, error=result.error)
        places = np.atleast_2d(result.probabilities)
        has_places = result.probabilities.ndim > 1
        likeliest = tuple(
            (label_text(label if has_places else label[0], classes), _rounded(chance))
            for label, chance in two_likeliest(places)
        )
        rounded = tuple(tuple(map(_rounded, place)) for place in places.tolist())
        return _Row(result.name, likeliest, rounded)


def two_likeliest(places: np.ndarray) -> list[tuple[np.ndarray, float]]:
    """The two likeliest labels ``(places,)`` and their probabilities.

    The places, with probabilities ``(places, classes)``, are independent. The second
    label differs from the first in the one place where that costs least.
    """
    order = np.argsort(-places, axis=1, kind="stable")
    ranked = np.take_along_axis(places, order, axis=1)
    first, best = order[:, 0], float(ranked[:, 0].prod())
    at = int(np.argmax(ranked[:, 1] / ranked[:, 0]))
    second = first.copy()
    second[at] = order[at, 1]
    return [(first, best), (second, best * float(ranked[at, 1] / ranked[at, 0]))]


def _rounded(probability: float) -> float:
    return float(f"{probability:.6g}")


def _table(rows: Sequence[_Row]) -> str:
    """The two likeliest classes of each image that could be used."""
    cells = [["image", "class", "probability", "second", "probability"]]
    for row in rows:
        if row.likeliest:
            pairs = ((name, f"{100 * p:.1f}%") for name, p in row.likeliest)
            cells.append([row.image, *(cell for pair in pairs for cell in pair)])
    return aligned(cells, "llrlr")


def _as_csv(rows: Sequence[_Row], card: Card) -> str:
    """A line for each image: its class, all probabilities, and its error."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    places = [f" in place {at + 1}" for at in range(card.places or 0)] or [""]
    names = [f"probability of {name}{at}" for at in places for name in card.classes]
    writer.writerow(["image", "class", "probability", *names, "error"])
    for row in rows:
        first = row.likeliest[0] if row.likeliest else ("", "")
        probabilities = sum(row.probabilities, ()) or [""] * len(names)
        writer.writerow([row.image, *first, *probabilities, row.error])
    return file.getvalue()


def _as_json(rows: Sequence[_Row], card: Card) -> str:
    """The model, and for each image its class and all probabilities, or its error."""
    content = {
        "model": {"name": card.model, "file": card.file, "sha256": card.sha256},
        "predictions": [_entry(row, card.classes) for row in rows],
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _entry(row: _Row, classes: Sequence[str]) -> dict[str, Any]:
    if row.error:
        return {"image": row.image, "error": row.error}
    name, probability = row.likeliest[0]
    of_places = [dict(zip(classes, p, strict=True)) for p in row.probabilities]
    return {
        "image": row.image,
        "class": name,
        "probability": probability,
        "probabilities": of_places if len(of_places) > 1 else of_places[0],
    }


def _figure(module: nnx.Module, card: Card, shown: Sequence[Prediction]) -> Figure:
    """Draw the sampling grids and outputs for images."""
    from ..plots import prediction_figure
    from ..specs import ModelSpec
    from ..transformers import localize_images, warped_size  # imports flax

    images = np.stack([result.image for result in shown])
    params = localize_images(module, jnp.asarray(normalized(images, card)))
    best = [_Row.of(result, card.classes).likeliest[0] for result in shown]
    return prediction_figure(
        ModelSpec.parse(card.model),
        images,
        np.asarray(params),
        warped_size(module, card.input_shape[:-1]),
        [_shortened(os.path.basename(result.name)) for result in shown],
        [f"{_shortened(name)}\n{100 * p:.1f}%" for name, p in best],
    )


def _shortened(text: str) -> str:
    """A text that fits above an image; its end stays, where names differ."""
    return text if len(text) <= LONGEST_TITLE else f"...{text[3 - LONGEST_TITLE :]}"

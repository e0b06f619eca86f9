"""Files of results: how they are written and read, and their provenance."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ..configs import Colocalization, Config, config_of, settings_of
from ..data import Dataset, sha256_of
from ..errors import ResultsError
from ..specs import ModelSpec
from ..tasks import class_names, normalization
from ..trained import Kept, Row, Snapshots, Trained
from .cards import Card
from .circumstances import circumstances
from .folder import Folder
from .weights import write_weights

METRICS, RESULTS = "metrics.jsonl", "results.json"


def result_of(run: Trained) -> dict[str, Any]:
    """The result of one training, as it is stored."""
    return {
        "model": run.spec.name,
        "parameters": run.parameters,
        "test_error": run.test_error,
        "validation_error": run.chosen.validation_error,
        "step": run.chosen.step,
        "seconds": round(run.seconds, 1),
        "outside": round(run.rows[-1]["outside"], 1),
        "blank": round(run.rows[-1]["blank"], 1),
    }


def write_models(
    folder: Folder, name: str, origin: dict[str, Any], data: Dataset, run: Trained
) -> None:
    """Write the weights of a training's best states and of its last, with their cards.

    Args:
      folder: the output folder.
      name: the folder in it for the weights.
      origin: the training's provenance.
      data: the dataset that the model was trained on.
      run: the training.
    """
    for rank, kept in enumerate(run.best, start=1):
        stem = "best" if rank == 1 else f"best-{rank}"
        card = _card(run, kept, "validation error", origin, data)
        write_weights(folder, f"{name}/{stem}", kept.params, card)
    card = _card(run, run.last, "last step", origin, data)
    write_weights(folder, f"{name}/last", run.last.params, card)


def _card(
    run: Trained, kept: Kept, chosen_by: str, origin: dict[str, Any], data: Dataset
) -> Card:
    task = origin["config"]["task"]
    errors = {"training": round(run.row_of(kept)["error"], 4)}
    if kept.validation_error is not None:
        errors["validation"] = kept.validation_error
    if kept.step == run.chosen.step:
        errors["test"] = run.test_error
    mean, std = normalization(task)
    return Card(
        model=run.spec.name,
        step=kept.step,
        chosen_by=chosen_by,
        classes=class_names(task, data.classes),
        input_shape=run.snapshots.images.shape[1:],
        input_range=(0.0, 1.0),
        mean=mean,
        std=std,
        digit_size=tuple(data.train.images.shape[1:3]),
        parameters=run.parameters,
        errors=errors,
        provenance=origin,
        places=None if run.predictions.ndim == 1 else run.predictions.shape[1],
    )


def provenance(
    name: str, config: Config | Colocalization, data: Dataset
) -> dict[str, Any]:
    """The command, date, device, versions, settings and data of a run."""
    return {
        "name": name,
        **circumstances(config.devices if isinstance(config, Config) else 1),
        "config": settings_of(config),
        "data": {
            "name": data.name,
            "training_images": len(data.train.labels),
            "validation_images": len(data.validation.labels) if data.validation else 0,
            "test_images": len(data.test.labels),
            "sha256": sha256_of(data),
        },
    }


def read_json(path: Path) -> Any:
    """Read stored results."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise ResultsError(f"{path}: no such file; has the run ended?") from None
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path} cannot be read: {error}") from error


def read_document(path: Path) -> dict[str, Any]:
    """Read the results of a run.

    Raises:
      ResultsError: the file is missing, unreadable, or does not hold a run's results.
    """
    return checked_document(read_json(path), path)


def checked_document(document: Any, path: Path) -> dict[str, Any]:
    """Results that were read from a file, if they are those of a run."""
    try:
        config = config_of(document["config"])
        for result in document["models"]:
            ModelSpec.parse(result["model"])
            for name in ("test_error", "parameters", "seconds", "outside", "blank"):
                float(result[name])
        data = document["data"]
        for value, kind in (
            (document["models"], list),
            (data["name"], str),
            (data["test_images"], int),
            (data["validation_images"] if config.validation else 0, int),
            (document["date"], str),
            (document["device"], str),
            (document["versions"], dict),
        ):
            if not isinstance(value, kind) or value == []:
                raise TypeError(f"expected a {kind.__name__}, got {value!r}")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ResultsError(
            f"{path} does not hold the results of a training: {error!r}"
        ) from error
    return document


def json_line(row: Row) -> str:
    """A row of metrics as JSON, which has no NaN: null in its place."""
    return json.dumps(
        {
            key: None if isinstance(x, float) and not math.isfinite(x) else x
            for key, x in row.items()
        }
    )


def write_json(folder: Folder, name: str, value: Any) -> Path:
    """Write a JSON file."""
    text = json.dumps(value, indent=2) + "\n"
    return folder.write(name, lambda path: path.write_text(text))


def write_figure(folder: Folder, name: str, figure: Figure) -> Path:
    """Write a figure in the format of the name's suffix."""
    return folder.write(name, lambda path: figure.savefig(path, dpi=120))


def write_arrays(folder: Folder, name: str, arrays: Mapping[str, Any]) -> Path:
    """Write a compressed .npz archive."""

    def save(path: Path) -> None:
        with path.open("wb") as file:
            np.savez_compressed(file, **arrays)

    return folder.write(name, save)


def read_snapshots(path: Path) -> Snapshots:
    """Read an archive of the fields of :class:`Snapshots`."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            found: dict[str, Any] = {name: arrays[name] for name in Snapshots._fields}
        found["size"] = tuple(found["size"].tolist())
        found["chosen"] = int(found["chosen"])
        found["classes"] = tuple(found["classes"].tolist())
        return Snapshots(**found)
    except Exception as error:  # NumPy and zipfile raise a dozen kinds
        raise ResultsError(f"{path} is corrupt: {error!r}") from error

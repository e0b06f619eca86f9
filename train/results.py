"""What a training leaves behind, and how it tells where its numbers come from."""

from __future__ import annotations

import datetime
import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

import stn_jax

from .configs import Colocalization, Config, meaning
from .data import Dataset
from .folder import Folder
from .loop import Looks, Trained

METRICS, RESULTS = "metrics.jsonl", "results.json"


class ResultsError(Exception):
    """Results that are missing or unreadable."""


def document(
    name: str, config: Config, data: Dataset, trained: list[Trained]
) -> dict[str, Any]:
    """The numbers of a run, and how they came about."""
    models = [
        {
            "model": run.name,
            "parameters": run.parameters,
            "test_error": run.test_error,
            "seconds": round(run.seconds, 1),
            "outside": round(run.rows[-1]["outside"], 1),
            "blank": round(run.rows[-1]["blank"], 1),
        }
        for run in trained
    ]
    return provenance(name, config, data) | {"models": models}


def provenance(
    name: str, config: Config | Colocalization, data: Dataset
) -> dict[str, Any]:
    """All that tells how numbers came about."""
    packages = ("jax", "jaxlib", "flax", "optax", "numpy")
    return {
        "name": name,
        "command": shlex.join(["python", "-m", "train", *sys.argv[1:]]),
        "date": datetime.date.today().isoformat(),
        "device": device(),
        "versions": {
            "stn_jax": stn_jax.__version__,
            "python": platform.python_version(),
            **{package: version(package) for package in packages},
        },
        "config": meaning(config),
        "data": {
            "name": data.name,
            "training_images": len(data.train_labels),
            "test_images": len(data.test_labels),
        },
    }


def device() -> str:
    """What computes."""
    first = jax.devices()[0]
    usable = getattr(os, "sched_getaffinity", None)  # fewer, where a run is pinned
    count = len(usable(0)) if usable else os.cpu_count()
    cores = f"{count} CPU core{'s' if count != 1 else ''}"
    return cores if first.platform == "cpu" else f"{first.device_kind}, {cores}"


def read(path: Path) -> Any:
    """A document that ``document`` made."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise ResultsError(f"{path}: no such file; has the run ended?") from None
    except (OSError, json.JSONDecodeError) as error:
        raise ResultsError(f"{path} cannot be read: {error}") from error


def write_json(folder: Folder, name: str, value: Any) -> Path:
    """Write a JSON file."""
    text = json.dumps(value, indent=2) + "\n"
    return folder.write(name, lambda path: path.write_text(text))


def write_figure(folder: Folder, name: str, figure: Figure) -> Path:
    """Write a figure in the format that the name's suffix says."""
    return folder.write(name, lambda path: figure.savefig(path, dpi=120))


def write_arrays(folder: Folder, name: str, arrays: Mapping[str, Any]) -> Path:
    """Write a compressed .npz archive."""

    def save(path: Path) -> None:
        with path.open("wb") as file:
            np.savez_compressed(file, **arrays)

    return folder.write(name, save)


def read_looks(path: Path) -> Looks:
    """The ``Looks`` whose fields an .npz archive holds."""
    with np.load(path, allow_pickle=False) as arrays:
        found: dict[str, Any] = {name: arrays[name] for name in Looks._fields}
    found["size"] = tuple(found["size"].tolist())
    return Looks(**found)

"""Files of results: how they are written and read, and their provenance."""

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

from .configs import Colocalization, Config, settings_of
from .data import Dataset
from .errors import ResultsError
from .folder import Folder
from .loop import Snapshots, Trained

METRICS, RESULTS = "metrics.jsonl", "results.json"


def run_document(
    name: str, config: Config, data: Dataset, trained: list[Trained]
) -> dict[str, Any]:
    """The results of a run and their provenance, as they are stored."""
    models = [
        {
            "model": run.spec.name,
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
    """The command, date, device, versions, settings and data of a run."""
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
        "config": settings_of(config),
        "data": {
            "name": data.name,
            "training_images": len(data.train.labels),
            "test_images": len(data.test.labels),
        },
    }


def device() -> str:
    """The accelerator, if there is one, and the number of usable CPU cores."""
    first = jax.devices()[0]
    usable = getattr(os, "sched_getaffinity", None)  # excludes cores denied to us
    count = len(usable(0)) if usable else os.cpu_count()
    cores = f"{count} CPU core{'s' if count != 1 else ''}"
    return cores if first.platform == "cpu" else f"{first.device_kind}, {cores}"


def read_json(path: Path) -> Any:
    """Read stored results."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise ResultsError(f"{path}: no such file; has the run ended?") from None
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path} cannot be read: {error}") from error


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
    with np.load(path, allow_pickle=False) as arrays:
        found: dict[str, Any] = {name: arrays[name] for name in Snapshots._fields}
    found["size"] = tuple(found["size"].tolist())
    return Snapshots(**found)

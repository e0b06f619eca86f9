"""One run: its models one after the other, its results and its pictures."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import platform
import shlex
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

import jax
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

import stn_jax

from . import plots
from .configs import Config, Model
from .data import Dataset, load
from .evaluate import distorted_test_images
from .loop import Row, Trained, fit, initial_model

METRICS, RESULTS = "metrics.jsonl", "results.json"
FIGURE, CURVES = "figure.png", "curves.png"


class OutputError(Exception):
    """A folder that results cannot be written to."""


def run(name: str, config: Config, console: Console) -> Path:
    """Train the models of a configuration; returns the folder of the results.

    The folder then holds ``metrics.jsonl``, ``results.json``, ``figure.png`` and
    ``curves.png``.

    Raises:
      DataError: the data cannot be had; the folder is not touched then.
      OutputError: the folder holds results already, or cannot be written.
    """
    out = config.out or Path("runs") / name
    _check_free(out, config.overwrite)
    data = load(config.dataset, config.data_dir)
    for model in config.models:  # what cannot be built should fail before the training
        initial_model(config, model, data)
    console.print(
        f"{name}: {len(data.train_labels):,} training and {len(data.test_labels):,} "
        f"test images of {data.name}, on {_device()}"
    )
    with _claim(out) as metrics:
        trained = [
            _fit(config, model, data, console, metrics) for model in config.models
        ]
    results = json.dumps(_results(name, config, data, trained), indent=2) + "\n"
    _replace(out / RESULTS, lambda path: path.write_text(results))
    images = distorted_test_images(data, config.distortion)
    _save(plots.look(trained, images, data.test_labels), out / FIGURE)
    _save(plots.curves(trained), out / CURVES)
    console.print(_table(trained))
    console.print(f"where they look: {out / FIGURE}", soft_wrap=True)
    console.print(f"how they learnt: {out / CURVES}", soft_wrap=True)
    return out


def _check_free(out: Path, overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise OutputError(f"--out {out} is a file, not a folder")
    if (out / METRICS).exists() and not overwrite:
        raise OutputError(
            f"{out} holds the results of an earlier run. Keep them and name another "
            "folder with --out, or replace them with --overwrite"
        )


def _claim(out: Path) -> TextIO:
    """The folder without earlier results, and its file of metrics, opened."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in (RESULTS, FIGURE, CURVES):
            (out / name).unlink(missing_ok=True)
        return (out / METRICS).open("w", buffering=1)
    except OSError as error:
        raise OutputError(f"cannot write to {out}: {error.strerror}") from error


def _fit(
    config: Config, model: Model, data: Dataset, console: Console, metrics: TextIO
) -> Trained:
    """Train one model behind a progress bar, and note its metrics."""
    progress = Progress(
        TextColumn(f"{plots.LABELS[model]:13}"),
        BarColumn(bar_width=10),
        TextColumn("{task.fields[status]}"),
        TimeRemainingColumn(compact=True),
        console=console,
    )

    def on_row(row: Row) -> None:
        metrics.write(json.dumps(row) + "\n")
        tested.update({k: v for k, v in row.items() if k == "test_error"})
        status = f"loss {row['loss']:.3f} error {row['error']:.1f}%"
        if tested:
            status += f" test {tested['test_error']:.2f}%"
        status += f" {row['images_per_second']:,.0f} images/s"
        progress.update(task, completed=row["step"], status=status)

    tested: Row = {}
    with progress:
        task = progress.add_task(model, total=config.steps, status="compiling")
        return fit(config, model, data, on_row)


def _results(
    name: str, config: Config, data: Dataset, trained: list[Trained]
) -> dict[str, Any]:
    """All that tells how the numbers came about."""
    packages = ("jax", "jaxlib", "flax", "optax", "numpy")
    return {
        "name": name,
        "command": shlex.join(["python", "-m", "train", *sys.argv[1:]]),
        "date": datetime.date.today().isoformat(),
        "device": _device(),
        "versions": {
            "stn_jax": stn_jax.__version__,
            "python": platform.python_version(),
            **{package: version(package) for package in packages},
        },
        "config": dataclasses.asdict(config) | {"out": None, "data_dir": None},
        "data": {
            "name": data.name,
            "training_images": len(data.train_labels),
            "test_images": len(data.test_labels),
        },
        "models": [
            {
                "model": run.name,
                "parameters": run.parameters,
                "test_error": run.test_error,
                "seconds": round(run.seconds, 1),
            }
            for run in trained
        ],
    }


def _device() -> str:
    device = jax.devices()[0]
    cores = f"{os.cpu_count()} CPU cores"
    return cores if device.platform == "cpu" else f"{device.device_kind}, {cores}"


def _table(trained: list[Trained]) -> Table:
    table = Table("model")
    for column in ("parameters", "test error", "seconds"):
        table.add_column(column, justify="right")
    for run in trained:
        table.add_row(
            plots.LABELS[run.name],
            f"{run.parameters:,}",
            f"{run.test_error:.2f}%",
            f"{run.seconds:.0f}",
        )
    return table


def _save(figure: Figure, path: Path) -> None:
    _replace(path, lambda unfinished: figure.savefig(unfinished, dpi=120))


def _replace(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file whole or not at all."""
    unfinished = path.with_name(f"unfinished-{path.name}")
    write(unfinished)
    unfinished.replace(path)

"""One run: its models one after the other, its results and its pictures."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from . import plots, results
from .checkpoints import Checkpoint
from .configs import Colocalization, Config, Model
from .data import Dataset, load
from .loop import Looks, Row, Trained, fit, initial_model
from .results import METRICS, RESULTS, OutputError

FIGURE, CURVES, CHECKPOINTS = "figure.png", "curves.png", "checkpoints"


def run(name: str, config: Config, console: Console) -> Path:
    """Train the models of a configuration; returns the folder of the results.

    The folder then holds ``metrics.jsonl``, ``results.json``, ``figure.png`` and
    ``curves.png``; with ``config.animate`` a GIF of each transformer.

    Raises:
      DataError: the data cannot be had; the folder is not touched then.
      OutputError: the folder holds results already, or cannot be written.
    """
    out = config.out or Path("runs") / name
    check_free(out, config)
    data = load(config.dataset, config.data_dir)
    for model in config.models:  # what cannot be built should fail before the training
        initial_model(config, model, data)
    console.print(
        f"{name}: {len(data.train_labels):,} training and {len(data.test_labels):,} "
        f"test images of {data.name}, on {results.device()}"
    )
    with claim(out, config) as metrics:
        trained = [_fit(config, m, data, out, console, metrics) for m in config.models]
    results.write_json(out / RESULTS, results.document(name, config, data, trained))
    looks: dict[Model, Looks] = {run.name: run.looks for run in trained}
    results.write_figure(out / FIGURE, plots.look(looks))
    results.write_figure(out / CURVES, plots.curves(trained))
    console.print(_table(trained))
    for model in trained:
        if model.collapse:
            console.print(collapsed(model), soft_wrap=True)
    console.print(f"where they look: {out / FIGURE}", soft_wrap=True)
    console.print(f"how they learnt: {out / CURVES}", soft_wrap=True)
    for model, of in looks.items():
        if config.animate and of.params.shape[1]:
            path = out / f"{model}.gif"
            results.replace(path, partial(plots.animate, model, of))
            console.print(f"where it looked: {path}", soft_wrap=True)
    shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)
    return out


def collapsed(trained: Trained) -> str:
    """What to say of a transformer that has lost sight of the images."""
    return (
        f"[bold red]The transformer of {plots.label(trained.name)} has collapsed:[/] "
        f"{trained.collapse}. A lower --localization-learning-rate, --clip 1, "
        "--outside-penalty 1 or --bound 1 keeps it from that."
    )


def check_free(out: Path, config: Config | Colocalization) -> None:
    """Whether results can be written there without losing others."""
    if out.exists() and not out.is_dir():
        raise OutputError(f"--out {out} is a file, not a folder")
    is_over = (out / RESULTS).exists()
    if config.overwrite or not (out / METRICS).exists():
        return
    if config.resume and not is_over:
        return
    if is_over:
        raise OutputError(
            f"{out} holds the results of an earlier run. Keep them and name another "
            "folder with --out, or replace them with --overwrite"
        )
    raise OutputError(
        f"{out} holds a run that was stopped. Go on with --resume, name another folder "
        "with --out, or begin anew with --overwrite"
    )


def claim(out: Path, config: Config | Colocalization) -> TextIO:
    """The folder without earlier results, and its file of metrics, opened."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in (RESULTS, FIGURE, CURVES):
            (out / name).unlink(missing_ok=True)
        if not config.resume:
            shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)
        return (out / METRICS).open("w", buffering=1)
    except OSError as error:
        raise OutputError(f"cannot write to {out}: {error.strerror}") from error


def _fit(
    config: Config,
    model: Model,
    data: Dataset,
    out: Path,
    console: Console,
    metrics: TextIO,
) -> Trained:
    """Train one model behind a progress bar, and note its metrics."""
    checkpoint = Checkpoint(out / CHECKPOINTS / model)
    with progress(console) as bar:
        show = shown(bar, plots.label(model), config.steps)

        def on_row(row: Row) -> None:
            metrics.write(json.dumps(row) + "\n")
            show(row)

        (trained,) = fit(config, model, data, on_row, checkpoint=checkpoint)
    return trained


def progress(console: Console) -> Progress:
    """A bar for a training."""
    return Progress(
        TextColumn("{task.description:13}"),
        BarColumn(bar_width=10),
        TextColumn("{task.fields[status]}"),
        TimeRemainingColumn(compact=True),
        console=console,
    )


def shown(bar: Progress, name: str, steps: int):
    """A function that shows rows of metrics in a new line of the bar."""
    task = bar.add_task(name, total=steps, status="compiling")
    tested: Row = {}

    def show(row: Row) -> None:
        tested.update({k: v for k, v in row.items() if k == "test_error"})
        status = f"loss {row['loss']:.3f} error {row['error']:.1f}%"
        if tested:
            status += f" test {tested['test_error']:.2f}%"
        status += f" {row['images_per_second']:,.0f} images/s"
        bar.update(task, completed=row["step"], status=status)

    return show


def _table(trained: list[Trained]) -> Table:
    table = Table("model")
    for column in ("parameters", "test error", "seconds"):
        table.add_column(column, justify="right")
    for run in trained:
        table.add_row(
            plots.label(run.name),
            f"{run.parameters:,}",
            f"{run.test_error:.2f}%",
            f"{run.seconds:.0f}",
        )
    return table

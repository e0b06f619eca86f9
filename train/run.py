"""A run: train the models of a configuration and write the results and figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
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

from . import artifacts, plots
from .artifacts import METRICS, RESULTS
from .checkpoints import Checkpoint
from .configs import Colocalization, Config, differences, settings_of
from .data import Dataset, load_source
from .errors import OutputError
from .folder import Folder
from .loop import Row, Trained, fit, initial_model
from .specs import ModelSpec

FIGURE, CURVES, CHECKPOINTS = "figure.png", "curves.png", "checkpoints"


def run_experiment(name: str, config: Config, console: Console) -> Path:
    """Train the models of a configuration; return the folder of the results.

    The folder then holds ``metrics.jsonl``, ``results.json``, ``figure.png`` and
    ``curves.png``; with ``config.animate`` also a GIF of each model with transformers.

    Raises:
      DataError: the data is missing or corrupt. The folder is not changed.
      OutputError: the folder is not the program's, holds results, or cannot be written.
    """
    out = config.out or Path("runs") / name
    names = [METRICS, RESULTS, FIGURE, CURVES]
    names += [f"{spec.name}.gif" for spec in config.models if config.animate]
    check_folder(out, config, names)
    for spec in config.models:
        _checkpoint(Folder(out, "run"), spec).check()
    data = load_source(config)
    for spec in config.models:  # a model that cannot be built fails before the training
        initial_model(config, spec, data)
    console.print(
        f"{name}: {len(data.train.labels):,} training and {len(data.test.labels):,} "
        f"test images of {data.name}, on {artifacts.device()}"
    )
    folder = claim(out, config, names)
    with folder.open(METRICS) as metrics:
        trained = [
            _fit_behind_bar(config, spec, data, folder, console, metrics)
            for spec in config.models
        ]
    document = artifacts.run_document(name, config, data, trained)
    artifacts.write_json(folder, RESULTS, document)
    _draw_figures(folder, trained, console, config.animate)
    for spec in config.models:
        _checkpoint(folder, spec).remove()
    return out


def _checkpoint(folder: Folder, spec: ModelSpec) -> Checkpoint:
    return Checkpoint(folder, f"{CHECKPOINTS}/{spec.name}")


def _draw_figures(
    folder: Folder, trained: Sequence[Trained], console: Console, animate: bool
) -> None:
    console.print(_summary(trained))
    for run in trained:
        if run.collapse:
            console.print(collapse_warning(run), soft_wrap=True)
    snapshots = {run.spec: run.snapshots for run in trained}
    figure = plots.transformer_figure(snapshots)
    path = artifacts.write_figure(folder, FIGURE, figure)
    console.print(f"transformers on test images: {path}", soft_wrap=True)
    path = artifacts.write_figure(folder, CURVES, plots.curves(trained))
    console.print(f"loss and test error: {path}", soft_wrap=True)
    for spec, of in snapshots.items():
        if animate and of.params.shape[1]:
            draw = partial(plots.animate, spec, of)
            path = folder.write(f"{spec.name}.gif", draw)
            console.print(f"animation: {path}", soft_wrap=True)


def collapse_warning(trained: Trained) -> str:
    """A warning about a transformer that has collapsed, and what helps."""
    return (
        f"[bold red]The transformer of {trained.spec.label} has collapsed:[/] "
        f"{trained.collapse}. Try a lower --localization-learning-rate, --clip 1, "
        "--outside-penalty 1 or --bound 1."
    )


def check_folder(
    out: Path, config: Config | Colocalization, names: Sequence[str]
) -> None:
    """Raise OutputError unless the run may write files of these names to ``out``."""
    folder = Folder(out, "run")
    marker = folder.marker()
    folder.check(names)
    if marker is None or config.overwrite:
        return
    if folder.holds(RESULTS):
        raise OutputError(
            f"{out} holds the results of an earlier run. Keep them and name another "
            "folder with --out, or replace them with --overwrite"
        )
    if not config.resume:
        raise OutputError(
            f"{out} holds a run that was stopped. Continue it with --resume, name "
            "another folder with --out, or start again with --overwrite"
        )
    if differ := differences(marker.settings, settings_of(config)):
        raise OutputError(
            f"{out} holds a run with other settings, so it cannot be resumed: {differ}"
        )


def claim(out: Path, config: Config | Colocalization, names: Sequence[str]) -> Folder:
    """Make ``out`` the folder of a run. Earlier results go, unless they are resumed."""
    check_folder(out, config, names)
    folder = Folder(out, "run")
    if folder.marker() is None or not config.resume:
        folder.begin(settings_of(config))
    return folder


def _fit_behind_bar(
    config: Config,
    spec: ModelSpec,
    data: Dataset,
    folder: Folder,
    console: Console,
    metrics: TextIO,
) -> Trained:
    """Train one model, show a progress bar, and write its metrics."""
    checkpoint = _checkpoint(folder, spec)
    with progress(console) as bar:
        show = row_display(bar, spec.label, config.steps)

        def on_row(row: Row) -> None:
            metrics.write(json.dumps(row) + "\n")
            show(row)

        (trained,) = fit(config, spec, data, on_row, checkpoint=checkpoint)
    return trained


def progress(console: Console) -> Progress:
    """A progress bar for a training."""
    return Progress(
        TextColumn("{task.description:13}"),
        BarColumn(bar_width=10),
        TextColumn("{task.fields[status]}"),
        TimeRemainingColumn(compact=True),
        console=console,
    )


def row_display(bar: Progress, name: str, steps: int) -> Callable[[Row], None]:
    """Add a line to the bar; return a function that shows a row of metrics there."""
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


def _summary(trained: Sequence[Trained]) -> Table:
    table = Table("model")
    for column in ("parameters", "test error", "seconds"):
        table.add_column(column, justify="right")
    for run in trained:
        table.add_row(
            run.spec.label,
            f"{run.parameters:,}",
            f"{run.test_error:.2f}%",
            f"{run.seconds:.0f}",
        )
    return table

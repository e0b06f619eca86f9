"""One run: its models one after the other, its results and its pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, TextIO

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
from .configs import Colocalization, Config, Model, meaning
from .data import Dataset, load
from .folder import Folder, OutputError
from .loop import Looks, Row, Trained, fit, initial_model
from .results import METRICS, RESULTS

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
    names = [METRICS, RESULTS, FIGURE, CURVES]
    names += [f"{model}.gif" for model in config.models if config.animate]
    check_free(out, config, names)
    data = load(config.dataset, config.data_dir)
    for model in config.models:  # what cannot be built should fail before the training
        initial_model(config, model, data)
    console.print(
        f"{name}: {len(data.train_labels):,} training and {len(data.test_labels):,} "
        f"test images of {data.name}, on {results.device()}"
    )
    folder = claim(out, config, names)
    with folder.open(METRICS) as metrics:
        trained = [
            _fit(config, m, data, folder, console, metrics) for m in config.models
        ]
    document = results.document(name, config, data, trained)
    results.write_json(folder, RESULTS, document)
    looks: dict[Model, Looks] = {run.name: run.looks for run in trained}
    results.write_figure(folder, FIGURE, plots.look(looks))
    results.write_figure(folder, CURVES, plots.curves(trained))
    console.print(_table(trained))
    for model in trained:
        if model.collapse:
            console.print(collapsed(model), soft_wrap=True)
    console.print(f"where they look: {out / FIGURE}", soft_wrap=True)
    console.print(f"how they learnt: {out / CURVES}", soft_wrap=True)
    for model, of in looks.items():
        if config.animate and of.params.shape[1]:
            path = folder.write(f"{model}.gif", partial(plots.animate, model, of))
            console.print(f"where it looked: {path}", soft_wrap=True)
    for model in config.models:
        Checkpoint(folder, f"{CHECKPOINTS}/{model}").remove()
    return out


def collapsed(trained: Trained) -> str:
    """What to say of a transformer that has lost sight of the images."""
    return (
        f"[bold red]The transformer of {plots.label(trained.name)} has collapsed:[/] "
        f"{trained.collapse}. A lower --localization-learning-rate, --clip 1, "
        "--outside-penalty 1 or --bound 1 keeps it from that."
    )


def check_free(
    out: Path, config: Colocalization | Config, names: Sequence[str]
) -> None:
    """Raise OutputError unless a run may write these files there."""
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
            f"{out} holds a run that was stopped. Go on with --resume, name another "
            "folder with --out, or begin anew with --overwrite"
        )
    ours = _settings(config)
    if differ := [n for n in ours if marker.settings.get(n) != ours[n]]:
        raise OutputError(
            f"{out} holds a run with other settings, so it cannot be resumed: "
            + ", ".join(
                f"{n} is {marker.settings.get(n)}, not {ours[n]}" for n in differ
            )
        )


def claim(out: Path, config: Config | Colocalization, names: Sequence[str]) -> Folder:
    """The folder for a run: empty of earlier results unless they are resumed."""
    check_free(out, config, names)
    folder = Folder(out, "run")
    if folder.marker() is None or not config.resume:
        folder.begin(_settings(config))
    return folder


def _settings(config: Config | Colocalization) -> dict[str, Any]:
    return json.loads(json.dumps(meaning(config)))


def _fit(
    config: Config,
    model: Model,
    data: Dataset,
    folder: Folder,
    console: Console,
    metrics: TextIO,
) -> Trained:
    """Train one model behind a progress bar, and note its metrics."""
    checkpoint = Checkpoint(folder, f"{CHECKPOINTS}/{model}")
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

"""A table of experiments: every model on every task, under several seeds.

A cell is a model on a task under one seed; its result is a file of its own, written
when it is done. What is done is not done again, and what was stopped goes on from its
last checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import jax
import tyro
from rich.console import Console

from . import plots, results
from .checkpoints import Checkpoint
from .configs import (
    BESIDE_SCHEDULE,
    DISTORTED,
    GUARDS,
    SCHEDULES,
    TASKS,
    Config,
    ConfigError,
    Model,
    Network,
    Schedule,
    Task,
    complete,
    meaning,
)
from .data import Dataset, load
from .experiment import collapsed, progress, shown
from .folder import Folder, OutputError
from .loop import Row, Trained, fit


@dataclass(frozen=True)
class Table:
    """Train the cells of a table that are not done yet, and print it."""

    out: Path
    """Folder of the table; what is done there is kept."""
    columns: tuple[Task, ...] = ("r", "rts", "p", "e", "tc")
    """The tasks."""
    rows: tuple[Model, ...] = DISTORTED
    """The models; each on the tasks that it is for."""
    seeds: int = 3
    """Of each cell: 0, 1, ..."""
    dataset: Annotated[str, tyro.conf.arg(metavar="digits|mnist|FILE.npz")] = "mnist"
    """digits needs no download; FILE.npz holds x_train, y_train, x_test and y_test."""
    data_dir: Path | None = None
    """Folder with MNIST's four files; without it they are downloaded."""
    network: Network = "lean"
    """As of ``run``."""
    parameters: int = 400_000
    """As of ``run``."""
    schedule: Schedule = "fast"
    """As of ``run``."""
    steps: int | None = None
    """Training steps; None: the schedule's."""
    batch_size: int | None = None
    """Images in a step; None: the schedule's."""
    learning_rate: float | None = None
    """As of ``run``, like those that follow; None: the schedule's, or the task's."""
    localization_learning_rate: float | None = None
    clip: float | None = None
    outside_penalty: float | None = None
    bound: float | None = None
    elastic: float | None = None
    eval_every: int = 500
    """Steps between evaluations on the whole test set."""
    together: int | None = None
    """Seeds side by side in one program; None: on a CPU, which one fills, 1, elsewhere
    as many as memory has room for."""
    minutes: float = 2.0
    """Between two checkpoints of a cell."""

    def __post_init__(self) -> None:
        for name in ("seeds", "together"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1; got {value}")
        for name in ("columns", "rows"):
            if not getattr(self, name):
                raise ConfigError(f"{name} must not be empty")
        self.config("cnn", "r")

    def config(self, model: Model, task: Task) -> Config:
        """Of a cell."""
        settings = SCHEDULES[self.schedule] | GUARDS.get(task, {})
        for name in (*SCHEDULES[self.schedule], *BESIDE_SCHEDULE):
            if (value := getattr(self, name)) is not None:
                settings[name] = value
        return Config(
            (model,),
            task,
            dataset=self.dataset,
            data_dir=self.data_dir,
            network=self.network,
            parameters=self.parameters,
            schedule=self.schedule,
            eval_every=self.eval_every,
            **settings,
        )


def train(table: Table, console: Console) -> Path:
    """Train what is left of the table; returns its folder."""
    folder = Folder(table.out, "table")
    is_new = folder.marker() is None
    cells: list[tuple[Task, Model]] = [
        (task, model)
        for task in table.columns
        for model in table.rows
        if model in (TASKS[task][1] if task in TASKS else table.rows)
    ]
    left: dict[tuple[Task, Model], list[int]] = {
        cell: _left(folder, table, *cell) for cell in cells
    }
    data = load(table.dataset, table.data_dir)
    if is_new:
        folder.begin({})
    count = sum(map(len, left.values()))
    console.print(
        f"{len(cells)} cells under {table.seeds} seeds, {count} of them to be trained, "
        f"{table.config('cnn', 'r').steps:,} steps each, on {results.device()}"
    )
    for (task, model), seeds in left.items():
        if seeds:
            _train(folder, table, task, model, seeds, data, console)
    return table.out


def _left(folder: Folder, table: Table, task: Task, model: Model) -> list[int]:
    """The seeds of a cell that are not done; the others must be of these settings."""
    left = []
    asked = _settings(table, task, model)
    for seed in range(table.seeds):
        names = [_file(task, model, seed, x) for x in ("json", "jsonl", "npz")]
        folder.check(names)
        if not folder.holds(names[0]):
            left.append(seed)
            continue
        path = folder.path / names[0]
        found = complete(results.read(path)["config"])
        differ = [n for n, value in asked.items() if str(found.get(n)) != str(value)]
        if differ:
            raise OutputError(
                f"{path} was trained otherwise: "
                + ", ".join(f"{n} {found.get(n)}, not {asked[n]}" for n in differ)
                + ". Name another folder with --out"
            )
    return left


def _settings(table: Table, task: Task, model: Model) -> dict[str, Any]:
    settings = meaning(table.config(model, task))
    return {k: value for k, value in settings.items() if k not in ("seed", "models")}


def _train(
    folder: Folder,
    table: Table,
    task: Task,
    model: Model,
    seeds: Sequence[int],
    data: Dataset,
    console: Console,
) -> None:
    """Train a cell, as many seeds side by side as memory has room for."""
    at_once = table.together or (1 if jax.default_backend() == "cpu" else len(seeds))
    while seeds:
        try:
            _train_together(folder, table, task, model, seeds[:at_once], data, console)
        except jax.errors.JaxRuntimeError as error:
            if at_once == 1 or "RESOURCE_EXHAUSTED" not in str(error):
                raise
            at_once //= 2
            console.print(f"out of memory: {at_once} side by side from here on")
            continue
        seeds = seeds[at_once:]


def _train_together(
    folder: Folder,
    table: Table,
    task: Task,
    model: Model,
    seeds: Sequence[int],
    data: Dataset,
    console: Console,
) -> None:
    config = table.config(model, task)
    numbers = "-".join(map(str, seeds))
    checkpoint = Checkpoint(folder, f"{task}-{model}/checkpoint-{numbers}")
    rows: list[Row] = []
    with progress(console) as bar:
        name = f"{task.upper()} {plots.label(model)} {numbers}"
        show = shown(bar, name, config.steps)

        def on_row(row: Row) -> None:
            rows.append(row)
            show(row)

        trained = fit(
            config,
            model,
            data,
            on_row,
            seeds=seeds,
            checkpoint=checkpoint,
            every=60 * table.minutes,
        )
    for run in trained:
        _write(folder, table, task, run, data)
        if run.collapse:
            console.print(collapsed(run), soft_wrap=True)
    checkpoint.remove()


def _write(
    folder: Folder, table: Table, task: Task, run: Trained, data: Dataset
) -> None:
    """Write the metrics, the looks, and last the result, whose presence says: done."""

    def file(suffix: str) -> str:
        return _file(task, run.name, run.seed, suffix)

    lines = "".join(json.dumps(row) + "\n" for row in run.rows)
    folder.write(file("jsonl"), lambda path: path.write_text(lines))
    results.write_arrays(folder, file("npz"), run.looks._asdict())
    config = replace(table.config(run.name, task), seed=run.seed)
    name = f"{task}-{run.name}"
    results.write_json(
        folder, file("json"), results.document(name, config, data, [run])
    )


def _file(task: Task, model: Model, seed: int, suffix: str) -> str:
    return f"{task}-{model}/seed-{seed}.{suffix}"

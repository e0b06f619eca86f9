"""A table of trainings: models on tasks, each under several seeds.

A cell is a model on a task. The result of each of its seeds is a file, which is written
when the training has ended. Finished trainings are not repeated; a stopped one
continues from its last checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import jax
import tyro
from rich.console import Console

from . import display, processes
from .configs import Config, Task, Training, differences, settings_of, with_defaults
from .data import Dataset, load_source, sha256_of, with_validation
from .devices import mesh_for
from .errors import ConfigError, Diverged, OutOfMemory, OutputError
from .experiments import DISTORTED, TASKS
from .loop import fit
from .specs import ModelOption, ModelSpec
from .storage import artifacts
from .storage.checkpoints import Checkpoint
from .storage.circumstances import device, sampler
from .storage.folder import Folder
from .trained import Trained

Cell = tuple[Task, ModelSpec]


@dataclass(frozen=True)
class Sweep:
    """Train the models of a table on its tasks, except for finished trainings."""

    out: Path
    """Folder of the table. Finished results in it are kept."""
    columns: tuple[Task, ...] = ("r", "rts", "p", "e", "tc")
    """Tasks, as of run --task."""
    rows: tuple[ModelOption, ...] = DISTORTED
    """Models. Each is trained on those of the tasks that it is made for."""
    seeds: int = 3
    """Number of seeds of each cell: 0, 1, ..."""
    together: int | None = None
    """Seeds trained in parallel in one program. Default: 1 on a CPU; otherwise all, and
    fewer if memory runs out."""
    training: Annotated[Training, tyro.conf.OmitArgPrefixes] = field(
        default_factory=Training
    )

    def __post_init__(self) -> None:
        for name in ("seeds", "together"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1; got {value}")
        for name in ("columns", "rows"):
            if not getattr(self, name):
                raise ConfigError(f"{name} must not be empty")

    @property
    def cells(self) -> list[Cell]:
        """The cells: each task with the models that are made for it."""
        return [
            (task, spec)
            for task in self.columns
            for spec in self.rows
            if task not in TASKS or spec in TASKS[task][1]
        ]

    def config(self, task: Task, spec: ModelSpec) -> Config:
        """The configuration of a cell."""
        return Config((spec,), task, **vars(self.training))


def run_sweep(sweep: Sweep, console: Console) -> Path:
    """Train the unfinished cells of the table; return its folder."""
    training, folder, is_new, left = sweep.training, None, False, []
    with ExitStack() as stack:
        with processes.preparing():
            mesh_for(training)
            if processes.is_first():
                folder = Folder(sweep.out, "table")
                stack.enter_context(folder.locked())
                is_new = folder.marker() is None
                for cell in sweep.cells:  # before the data are loaded, which takes long
                    _left(folder, sweep, cell)
            data = with_validation(load_source(training), training.validation)
            digest = sha256_of(data)
            if folder:
                left = [_left(folder, sweep, cell, digest) for cell in sweep.cells]
        processes.agree(
            _shared_settings(sweep) | {"data": digest, "sampler": sampler()}
        )
        if folder and is_new:
            folder.begin({})
        left = dict(zip(sweep.cells, processes.of_first(left), strict=True))
        count = sum(map(len, left.values()))
        console.print(
            f"cells: {len(left)}, seeds: {sweep.seeds}, trainings left: {count}, "
            f"steps of each: {training.steps:,}, device: {device(training.devices)}",
            soft_wrap=True,
        )
        _train_cells(folder, sweep, left, data, console)
    return sweep.out


def _shared_settings(sweep: Sweep) -> dict[str, Any]:
    """The settings that all processes of a table must share."""
    of_cells = {str(cell): _cell_settings(sweep, cell) for cell in sweep.cells}
    return {"seeds": sweep.seeds, "together": sweep.together} | of_cells


def _train_cells(
    folder: Folder | None,
    sweep: Sweep,
    left: dict[Cell, list[int]],
    data: Dataset,
    console: Console,
) -> None:
    """Train the seeds that are left; one that diverges does not keep the others."""
    diverged = []
    for cell, seeds in left.items():
        try:
            _train_cell(folder, sweep, cell, seeds, data, console)
        except Diverged as error:
            diverged.append(f"{cell[0]}: {error}")
            console.print(f"[bold red]{diverged[-1]}[/]", soft_wrap=True)
        jax.clear_caches()  # they take memory, and few serve another cell
    if diverged:
        raise Diverged(
            f"{len(diverged)} of {len(left)} cells have no result: "
            + "; ".join(diverged)
        )


def _left(
    folder: Folder, sweep: Sweep, cell: Cell, digest: str | None = None
) -> list[int]:
    """The seeds of a cell without results.

    Raises:
      OutputError: a result has other settings or, if the digest of the data is given,
        other data.
    """
    left = []
    for seed in range(sweep.seeds):
        names = [_file(cell, seed, f".{suffix}") for suffix in ("json", "jsonl", "npz")]
        folder.check(names)
        if not folder.holds(names[0]):
            left.append(seed)
            continue
        path = folder.path / names[0]
        document = artifacts.read_document(path)
        settings = _cell_settings(sweep, cell)
        stored = with_defaults(document["config"])
        if digest and "sha256" in document["data"]:
            stored["data_sha256"] = document["data"]["sha256"]
            settings["data_sha256"] = digest
        if differ := differences(stored, settings):
            raise OutputError(
                f"{path} was trained with other settings: {differ}. Name another "
                "folder with --out"
            )
    return left


def _cell_settings(sweep: Sweep, cell: Cell) -> dict[str, Any]:
    settings = settings_of(sweep.config(*cell))
    return {k: value for k, value in settings.items() if k not in ("seed", "models")}


def _train_cell(
    folder: Folder | None,
    sweep: Sweep,
    cell: Cell,
    seeds: Sequence[int],
    data: Dataset,
    console: Console,
) -> None:
    """Train a cell, as many seeds in parallel as fit into memory."""
    at_once = sweep.together or (1 if jax.default_backend() == "cpu" else len(seeds))
    while seeds:
        try:
            _train_seeds(folder, sweep, cell, seeds[:at_once], data, console)
        except OutOfMemory:
            if at_once == 1 or processes.are_several():
                raise
            at_once //= 2
            console.print(f"out of memory; seeds in parallel from here on: {at_once}")
            continue
        seeds = seeds[at_once:]


def _train_seeds(
    folder: Folder | None,
    sweep: Sweep,
    cell: Cell,
    seeds: Sequence[int],
    data: Dataset,
    console: Console,
) -> None:
    """Train some seeds of a cell in parallel; the first process writes the results."""
    task, spec = cell
    config = sweep.config(task, spec)
    if folder is None:
        fit(config, spec, data, seeds=seeds)
        return
    numbers = "-".join(map(str, seeds))
    checkpoint = Checkpoint(folder, f"{task}-{spec.name}/checkpoint-{numbers}")
    checkpoint.check()
    name = f"{task.upper()} {spec.label} {numbers}"
    with display.progress(console, name, config.steps) as show:
        trained = fit(config, spec, data, show, seeds=seeds, checkpoint=checkpoint)
    for run in trained:
        _write_result(folder, replace(config, seed=run.seed), run, data)
        for remark in display.remarks(run):
            console.print(remark, soft_wrap=True)
    checkpoint.remove()


def _write_result(folder: Folder, config: Config, run: Trained, data: Dataset) -> None:
    """Write metrics, snapshots, weights, and last the result, which marks the end."""
    cell = config.task, run.spec
    lines = "".join(artifacts.json_line(row) + "\n" for row in run.rows)
    metrics = _file(cell, run.seed, ".jsonl")
    folder.write(metrics, lambda path: path.write_text(lines))
    snapshots = _file(cell, run.seed, ".npz")
    artifacts.write_arrays(folder, snapshots, run.snapshots._asdict())
    origin = artifacts.provenance(f"{config.task}-{run.spec.name}", config, data)
    artifacts.write_models(folder, _file(cell, run.seed), origin, data, run)
    document = origin | {"models": [artifacts.result_of(run)]}
    artifacts.write_json(folder, _file(cell, run.seed, ".json"), document)


def _file(cell: Cell, seed: int, suffix: str = "") -> str:
    task, spec = cell
    return f"{task}-{spec.name}/seed-{seed}{suffix}"

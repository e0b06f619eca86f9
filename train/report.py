"""The report on a table of trainings: Markdown and figures, from stored results."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import get_args

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from . import plots
from .configs import Task
from .errors import ResultsError
from .paper import ERRORS
from .specs import MODELS, ModelSpec
from .storage import artifacts
from .storage.folder import Folder
from .tables import Cells, Document, cells_of, task_tables, tasks_of
from .trained import Snapshots

TICKS = (0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 7, 10, 15, 20, 30, 50, 90)
MARKDOWN, FIGURE, MERGED = "report.md", "report.png", "report.json"
ADVICE = (
    "Results of an earlier version can be read without writing to their folder: "
    "python -m train compare DIR/*/seed-*.json, or python -m train report "
    "DIR/report.json."
)


def write_report(path: Path, animate: bool = False) -> str:
    """Report on a folder of ``python -m train table``; return the tables as Markdown.

    The function writes the Markdown to ``report.md``, the errors and the paper's as a
    figure to ``report.png``, all results to ``report.json``, and the transformers of
    seed 0 to ``looks-TASK.png``; with ``animate`` also to ``TASK-MODEL.gif``.

    ``path`` can also be a ``report.json``. Then nothing is written.
    """
    if path.is_file():
        documents = artifacts.read_json(path)
        if not isinstance(documents, list) or not documents:
            raise ResultsError(f"{path} is not the report.json of a table")
        return task_tables([artifacts.checked_document(d, path) for d in documents])
    folder = Folder(path, "table", ADVICE)
    names = [
        name
        for name in folder.files
        if re.fullmatch(r"[^/]+/seed-\d+\.json", name) and folder.holds(name)
    ]
    if not names:
        raise ResultsError(f"{path} holds no results of python -m train table")
    documents = [artifacts.read_document(path / name) for name in sorted(names)]
    snapshots = _stored_snapshots(folder)
    animated = {
        f"{task}-{spec.name}.gif": partial(plots.animate, spec, of)
        for task, of_task in snapshots.items()
        for spec, of in of_task.items()
        if animate and of.params.shape[1]
    }
    figures = {f"looks-{task}.png": of_task for task, of_task in snapshots.items()}
    folder.check([MARKDOWN, MERGED, FIGURE, *figures, *animated])
    text = task_tables(documents)
    folder.write(MARKDOWN, lambda path: path.write_text(text + "\n"))
    artifacts.write_json(folder, MERGED, documents)
    artifacts.write_figure(folder, FIGURE, errors_figure(documents))
    for name, of_task in figures.items():
        artifacts.write_figure(folder, name, plots.transformer_figure(of_task))
    for name, draw in animated.items():
        folder.write(name, draw)
    return text


def _stored_snapshots(folder: Folder) -> dict[Task, dict[ModelSpec, Snapshots]]:
    """The snapshots of seed 0, by task and model."""
    found: dict[Task, dict[ModelSpec, Snapshots]] = defaultdict(dict)
    for task in get_args(Task):
        for spec in MODELS:
            if folder.holds(name := f"{task}-{spec.name}/seed-0.npz"):
                found[task][spec] = artifacts.read_snapshots(folder.path / name)
    return found


def errors_figure(documents: Sequence[Document]) -> Figure:
    """Plot the errors as points, task by task, with the paper's as circles."""
    cells = cells_of(documents)
    tasks = tasks_of(cells)
    figure = Figure((2.2 * len(tasks) + 2.6, 4), layout="constrained")
    columns = figure.subplots(1, len(tasks), squeeze=False)[0]
    for axes, task in zip(columns, tasks, strict=True):
        _plot_task(axes, cells, task)
    columns[0].set_ylabel("test error, %")
    columns[0].plot([], [], "o", color="C0", label="ours, each seed")
    columns[0].plot([], [], "o", mfc="none", mec="C3", ms=10, label="the paper's")
    figure.legend(loc="outside upper right", ncols=2, frameon=False)
    return figure


def _plot_task(axes: Axes, cells: Cells, task: Task) -> None:
    specs = [spec for spec in MODELS if (task, spec) in cells]
    for index, spec in enumerate(specs):
        errors = [result["test_error"] for result in cells[task, spec]]
        axes.plot([index] * len(errors), errors, "o", color="C0", alpha=0.7)
        if (paper := ERRORS.get((task, spec.name))) is not None:
            axes.plot(index, paper, "o", mfc="none", mec="C3", ms=10)
    axes.set_title(task.upper())
    axes.set_xlim(-0.6, len(specs) - 0.4)
    labels = [spec.label for spec in specs]
    axes.set_xticks(range(len(labels)), labels, rotation=90)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    low, high = axes.get_ylim()
    axes.set_yticks([t for t in TICKS if low <= t <= high])
    axes.grid(alpha=0.3)

"""A table's results as Markdown and as figures, from what is stored alone."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any, get_args

from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from . import plots, results
from .configs import BESIDE_SCHEDULE, SCHEDULES, Model, Task, complete
from .folder import Folder
from .loop import Looks
from .paper import ERRORS
from .results import ResultsError

Cells = dict[tuple[Task, Model], list[dict[str, Any]]]
TICKS = (0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 7, 10, 15, 20, 30, 50, 90)
MARKDOWN, FIGURE, MERGED = "report.md", "report.png", "report.json"
ADVICE = (
    "Its results can be read without writing to it: python -m train compare "
    "DIR/*/seed-*.json, or python -m train report DIR/report.json."
)


def report(path: Path, animate: bool = False) -> str:
    """The tables of a folder that ``python -m train table`` filled, as Markdown.

    It is also written there, as ``report.md``, with ``report.png``, the errors beside
    the paper's; ``report.json``, all results in one file; and for each task
    ``looks-TASK.png``, what the models of seed 0 saw; to ``animate`` adds a
    ``TASK-MODEL.gif`` for each that has a transformer. The path of a ``report.json``
    alone gives its Markdown.
    """
    if path.is_file():
        return markdown(results.read(path))
    folder = Folder(path, "table", ADVICE)
    cells = [n for n in folder.files if fnmatch(n, "*/seed-*.json") and folder.holds(n)]
    if not cells:
        raise ResultsError(f"{path} holds no results of python -m train table")
    documents = [results.read(path / cell) for cell in sorted(cells)]
    looks = _looks(folder)
    figures = [f"looks-{task}.png" for task in looks]
    if animate:
        figures += [f"{task}-{model}.gif" for task in looks for model in looks[task]]
    folder.check([MARKDOWN, MERGED, FIGURE, *figures])
    text = markdown(documents)
    folder.write(MARKDOWN, lambda path: path.write_text(text + "\n"))
    results.write_json(folder, MERGED, documents)
    results.write_figure(folder, FIGURE, figure(documents))
    for task, of_task in looks.items():
        results.write_figure(folder, f"looks-{task}.png", plots.look(of_task))
        for model, of in of_task.items():
            if animate and of.params.shape[1]:
                draw = partial(plots.animate, model, of)
                folder.write(f"{task}-{model}.gif", draw)
    return text


def _looks(folder: Folder) -> dict[Task, dict[Model, Looks]]:
    """Where the models of seed 0 looked, by task and model."""
    looks: dict[Task, dict[Model, Looks]] = defaultdict(dict)
    for task in get_args(Task):
        for model in get_args(Model):
            if folder.holds(name := f"{task}-{model}/seed-0.npz"):
                looks[task][model] = results.read_looks(folder.path / name)
    return looks


def markdown(documents: Sequence[dict[str, Any]]) -> str:
    """A table for each budget: the mean test error, its spread, and the paper's."""
    by_budget: dict[tuple, list[dict[str, Any]]] = defaultdict(list)
    for document in documents:
        by_budget[_budget(document)].append(document)
    return "\n\n".join(_table(of) for of in by_budget.values())


def _budget(document: dict[str, Any]) -> tuple:
    config = complete(document["config"])
    apart = ("task", "models", "seed")
    settings = tuple(f"{k}={v}" for k, v in sorted(config.items()) if k not in apart)
    return document["data"]["name"], settings


def _table(documents: Sequence[dict[str, Any]]) -> str:
    cells = _cells(documents)
    tasks = [task for task in get_args(Task) if any(t == task for t, _ in cells)]
    models = [model for model in get_args(Model) if any(m == model for _, m in cells)]
    lines = [
        "| model | " + " | ".join(task.upper() for task in tasks) + " |",
        "|---|" + "---:|" * len(tasks),
    ]
    for model in models:
        of = [_cell(cells.get((task, model)), task, model) for task in tasks]
        lines.append(f"| {plots.label(model)} | " + " | ".join(of) + " |")
    return "\n".join([*lines, "", _told(documents)])


def _cells(documents: Iterable[dict[str, Any]]) -> Cells:
    cells: Cells = defaultdict(list)
    for document in documents:
        for model in document["models"]:
            cells[document["config"]["task"], model["model"]].append(model)
    return cells


def _cell(runs: list[dict[str, Any]] | None, task: Task, model: Model) -> str:
    text = "not trained"
    if runs:
        errors = [run["test_error"] for run in runs]
        text = f"{statistics.mean(errors):.2f}"
        if len(errors) > 1:
            text += f" ± {statistics.stdev(errors):.2f}"
        if any(run["blank"] > 50 or run["outside"] > 90 for run in runs):
            text += " (collapsed)"
    elif (task, model) not in ERRORS:
        return ""
    paper = ERRORS.get((task, model))
    return text if paper is None else f"{text} / {paper}"


def _told(documents: Sequence[dict[str, Any]]) -> str:
    """Where these numbers come from."""
    first, config = documents[0], documents[0]["config"]
    runs = [model for document in documents for model in document["models"]]
    trainings = "1 training" if len(runs) == 1 else f"{len(runs)} trainings"
    seeds = sorted({document["config"]["seed"] for document in documents})
    sizes = [run["parameters"] for run in runs]
    between = dict.fromkeys((min(sizes), max(sizes)))
    dates = sorted({document["date"] for document in documents})
    when = " to ".join(dict.fromkeys((dates[0], dates[-1])))
    minutes = sum(run["seconds"] for run in runs) / 60
    took = f"{minutes / 60:.1f} hours" if minutes >= 60 else f"{minutes:.0f} minutes"
    over = "mean and standard deviation over the seeds" if len(seeds) > 1 else "seed"
    devices = sorted({document["device"] for document in documents})
    versions = ", ".join(f"{k} {v}" for k, v in first["versions"].items())
    return (
        f"Test error in %, ours / the paper's: {over} {', '.join(map(str, seeds))}, "
        f"on {first['data']['test_images']:,} test images of {first['data']['name']}; "
        f"{config['network']} networks of "
        f"{' to '.join(f'{n:,}' for n in between)} parameters, "
        f"schedule {config['schedule']}: "
        f"{config['steps']:,} steps of {config['batch_size']} images"
        f"{_otherwise(config)}. {trainings} of {took} together, "
        f"on {', '.join(devices)}; {when}; {versions}."
    )


def _otherwise(config: dict[str, Any]) -> str:
    """The settings of a training that its schedule does not tell."""
    config, defaults = complete(config), complete({})
    usual = {name: defaults[name] for name in BESIDE_SCHEDULE}
    usual |= SCHEDULES[config["schedule"]]
    return "".join(
        f", {name.replace('_', ' ')} {config[name]:g}"
        for name, value in usual.items()
        if name not in ("steps", "batch_size") and config[name] != value
    )


def figure(documents: Sequence[dict[str, Any]]) -> Figure:
    """The errors as points, task by task, with the paper's as circles."""
    cells = _cells(documents)
    tasks = [task for task in get_args(Task) if any(t == task for t, _ in cells)]
    models = {
        task: [model for model in get_args(Model) if (task, model) in cells]
        for task in tasks
    }
    out = Figure((2.2 * len(tasks) + 2.6, 4), layout="constrained")
    columns = out.subplots(1, len(tasks), squeeze=False)[0]
    for axes, task in zip(columns, tasks, strict=True):
        for index, model in enumerate(models[task]):
            errors = [run["test_error"] for run in cells[task, model]]
            axes.plot([index] * len(errors), errors, "o", color="C0", alpha=0.7)
            if (paper := ERRORS.get((task, model))) is not None:
                axes.plot(index, paper, "o", mfc="none", mec="C3", ms=10)
        axes.set_title(task.upper())
        axes.set_xlim(-0.6, len(models[task]) - 0.4)
        labels = [plots.label(model) for model in models[task]]
        axes.set_xticks(range(len(labels)), labels, rotation=90)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        low, high = axes.get_ylim()
        axes.set_yticks([t for t in TICKS if low <= t <= high])
        axes.grid(alpha=0.3)
    columns[0].set_ylabel("test error, %")
    columns[0].plot([], [], "o", color="C0", label="ours, each seed")
    columns[0].plot([], [], "o", mfc="none", mec="C3", ms=10, label="the paper's")
    out.legend(loc="outside upper right", ncols=2, frameon=False)
    return out

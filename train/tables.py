"""Tables of stored results, as Markdown: over tasks and models, and over runs."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

from stn_jax.cpu import PLAIN

from .configs import Task, with_defaults
from .paper import ERRORS
from .schedules import SCHEDULES
from .specs import MODELS, ModelSpec
from .storage.artifacts import RESULTS, read_document

Document = dict[str, Any]  # a run's results and their provenance
Cells = dict[tuple[Task, ModelSpec], list[dict[str, Any]]]  # a model's results by seed

# settings that a table's caption names if they differ from these
USUAL = {
    "clip": None,
    "outside_penalty": 0.0,
    "bound": None,
    "elastic": 0.0,
    "weight_decay": 0.0,
}


def mean_and_deviation(errors: Sequence[float]) -> str:
    """The mean and, of several, the sample standard deviation: ``1.23 ± 0.04``."""
    mean = f"{statistics.mean(errors):.2f}"
    return f"{mean} ± {statistics.stdev(errors):.2f}" if len(errors) > 1 else mean


# over tasks and models


def cells_of(documents: Iterable[Document]) -> Cells:
    """The models' results by task and model."""
    cells: Cells = defaultdict(list)
    for document in documents:
        for result in document["models"]:
            spec = ModelSpec.parse(result["model"])
            cells[document["config"]["task"], spec].append(result)
    return cells


def tasks_of(cells: Cells) -> list[Task]:
    """The tasks that have results, in the order of ``Task``."""
    return [task for task in get_args(Task) if any(t == task for t, _ in cells)]


def task_tables(documents: Sequence[Document]) -> str:
    """A table for each set of settings: errors by model and task, and the paper's."""
    by_settings: dict[tuple, list[Document]] = defaultdict(list)
    for document in documents:
        config = with_defaults(document["config"])
        for name in ("task", "models", "seed"):
            del config[name]
        key = document["data"]["name"], json.dumps(config, sort_keys=True)
        by_settings[key].append(document)
    return "\n\n".join(map(_task_table, by_settings.values()))


def _task_table(documents: Sequence[Document]) -> str:
    cells = cells_of(documents)
    tasks = tasks_of(cells)
    lines = [
        "| model | " + " | ".join(task.upper() for task in tasks) + " |",
        "|---|" + "---:|" * len(tasks),
    ]
    for spec in MODELS:
        if any(other == spec for _, other in cells):
            row = [_cell(cells.get((task, spec)), task, spec) for task in tasks]
            lines.append(f"| {spec.label} | " + " | ".join(row) + " |")
    return "\n".join([*lines, "", _caption(documents)])


def _cell(results: list[dict[str, Any]] | None, task: Task, spec: ModelSpec) -> str:
    paper = ERRORS.get((task, spec.name))
    text = "not trained"
    if results:
        text = mean_and_deviation([result["test_error"] for result in results])
        if any(result["blank"] > 50 or result["outside"] > 90 for result in results):
            text += " (collapsed)"
    elif paper is None:
        return ""
    return text if paper is None else f"{text} / {paper}"


def _caption(documents: Sequence[Document]) -> str:
    """What the numbers are, and where they come from."""
    first, config = documents[0], with_defaults(documents[0]["config"])
    results = [result for document in documents for result in document["models"]]
    trainings = "1 training" if len(results) == 1 else f"{len(results)} trainings"
    seeds = sorted({document["config"]["seed"] for document in documents})
    sizes = [result["parameters"] for result in results]
    sizes = dict.fromkeys((min(sizes), max(sizes)))
    dates = sorted({document["date"] for document in documents})
    dates = " to ".join(dict.fromkeys((dates[0], dates[-1])))
    minutes = sum(result["seconds"] for result in results) / 60
    time = f"{minutes / 60:.1f} hours" if minutes >= 60 else f"{minutes:.0f} minutes"
    over = "mean and standard deviation over the seeds" if len(seeds) > 1 else "seed"
    devices = sorted({document["device"] for document in documents})
    versions = ", ".join(f"{k} {v}" for k, v in first["versions"].items())
    samplers = sorted({document.get("sampler", PLAIN) for document in documents})
    sampled = "" if samplers == [PLAIN] else f", sampled by {' and '.join(samplers)}"
    return (
        f"Test error in %, ours / the paper's: {over} {', '.join(map(str, seeds))}, "
        f"on {first['data']['test_images']:,} test images of {first['data']['name']}; "
        f"{config['network']} networks of "
        f"{' to '.join(f'{n:,}' for n in sizes)} parameters, "
        f"schedule {config['schedule']}: "
        f"{config['steps']:,} steps of {config['batch_size']} images"
        f"{_unusual(config)}. {_chosen_on(first)}. {trainings} of {time} together, "
        f"on {', '.join(devices)}{sampled}; {dates}; {versions}."
    )


def _chosen_on(document: Document) -> str:
    """By which images the reported states were chosen."""
    config = with_defaults(document["config"])
    if config["validation"] == 0:
        return (
            "No validation part: the last state is reported, and settings were chosen "
            "on the test set"
        )
    count = document["data"]["validation_images"]
    return (
        f"The state with the lowest error on {count:,} validation images is reported, "
        "and was tested once"
    )


def _unusual(config: dict[str, Any]) -> str:
    """The settings that the schedule does not determine, if they are not usual."""
    config = with_defaults(config)
    usual = USUAL | SCHEDULES[config["schedule"]]
    return "".join(
        f", {name.replace('_', ' ')} {config[name]:g}"
        for name, value in usual.items()
        if name not in ("steps", "batch_size") and config[name] != value
    )


# over runs

HEAD = """\
| task | data | model | parameters | steps | seeds | test error, % | seconds |
|---|---|---|---:|---:|---:|---:|---:|"""
# settings that have a column of their own, or that the mean is taken over
COLUMNS = ("task", "dataset", "models", "parameters", "steps", "seed")


def run_table(paths: Sequence[Path]) -> str:
    """A table over runs, given their files of results or their folders.

    Runs whose settings differ only in the seed share a row: mean and sample standard
    deviation of the test error, and mean time. Other settings in which the runs differ
    are named beside the model.
    """
    documents = [read_document(p / RESULTS if p.is_dir() else p) for p in paths]
    configs = [with_defaults(document["config"]) for document in documents]
    differing = [
        name
        for name in configs[0]
        if name not in COLUMNS and len({str(c.get(name)) for c in configs}) > 1
    ]
    rows: dict[tuple, list[dict[str, Any]]] = defaultdict(list)
    for document, config in zip(documents, configs, strict=True):
        special = {name: config.get(name) for name in differing}
        alike = {k: v for k, v in config.items() if k not in ("seed", "models")}
        for result in document["models"]:
            key = (result["model"], result["parameters"], json.dumps(alike))
            data = document["data"]["name"]
            rows[key].append({**config, **result, "data": data, "special": special})
    return "\n".join([HEAD, *map(_run_row, rows.values())])


def _run_row(runs: list[dict[str, Any]]) -> str:
    run = runs[0]
    settings = (f"{n.replace('_', ' ')} {v}" for n, v in run["special"].items())
    cells = (
        run["task"].upper(),
        run["data"],
        ", ".join([ModelSpec.parse(run["model"]).label, *settings]),
        f"{run['parameters']:,}",
        f"{run['steps']:,}",
        len(runs),
        mean_and_deviation([run["test_error"] for run in runs]),
        f"{statistics.mean(run['seconds'] for run in runs):.0f}",
    )
    return "| " + " | ".join(map(str, cells)) + " |"

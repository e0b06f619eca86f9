"""A table over finished runs: the same models under several seeds, side by side."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import results
from .plots import label
from .results import RESULTS

HEAD = """\
| task | data | model | parameters | steps | seeds | test error, % | seconds |
|---|---|---|---:|---:|---:|---:|---:|"""
# of the configuration: what has a column of its own, or is the average's
APART = ("task", "dataset", "models", "parameters", "steps", "seed")


def table(paths: Sequence[Path]) -> str:
    """The results in these files, or in these runs' folders, as a Markdown table.

    Runs that differ in nothing but the seed share a line: the mean test error, and its
    sample standard deviation where there are several seeds; the mean time of a run.
    Other settings in which some of the runs differ stand beside the model.
    """
    documents = [results.read(p / RESULTS if p.is_dir() else p) for p in paths]
    configs = [document["config"] for document in documents]
    differing = [
        name
        for name in configs[0]
        if name not in APART and len({str(c.get(name)) for c in configs}) > 1
    ]
    lines: dict[tuple, list[dict[str, Any]]] = defaultdict(list)
    for document, config in zip(documents, configs, strict=True):
        own = {name: config.get(name) for name in differing}
        for model in document["models"]:
            alike = {k: v for k, v in config.items() if k not in ("seed", "models")}
            key = (model["model"], model["parameters"], json.dumps(alike))
            run = {**config, **model, "data": document["data"]["name"], "own": own}
            lines[key].append(run)
    return "\n".join([HEAD, *map(_line, lines.values())])


def _line(runs: list[dict[str, Any]]) -> str:
    run, errors = runs[0], [run["test_error"] for run in runs]
    error = f"{statistics.mean(errors):.2f}"
    if len(errors) > 1:
        error += f" ± {statistics.stdev(errors):.2f}"
    seconds = statistics.mean(run["seconds"] for run in runs)
    settings = (f"{n.replace('_', ' ')} {value}" for n, value in run["own"].items())
    cells = (
        run["task"].upper(),
        run["data"],
        ", ".join([label(run["model"]), *settings]),
        f"{run['parameters']:,}",
        f"{run['steps']:,}",
        len(runs),
        error,
        f"{seconds:.0f}",
    )
    return "| " + " | ".join(map(str, cells)) + " |"

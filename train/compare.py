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


def table(paths: Sequence[Path]) -> str:
    """The results in these files, or in these runs' folders, as a Markdown table.

    Runs that differ in nothing but the seed share a line: the mean test error, and its
    sample standard deviation where there are several seeds; the mean time of a run.
    """
    lines: dict[tuple, list[dict[str, Any]]] = defaultdict(list)
    for path in paths:
        document = results.read(path / RESULTS if path.is_dir() else path)
        config = document["config"]
        for model in document["models"]:
            alike = {k: v for k, v in config.items() if k not in ("seed", "models")}
            key = (model["model"], model["parameters"], json.dumps(alike))
            lines[key].append({**config, **model, "data": document["data"]["name"]})
    return "\n".join([HEAD, *map(_line, lines.values())])


def _line(runs: list[dict[str, Any]]) -> str:
    run, errors = runs[0], [run["test_error"] for run in runs]
    error = f"{statistics.mean(errors):.2f}"
    if len(errors) > 1:
        error += f" ± {statistics.stdev(errors):.2f}"
    seconds = statistics.mean(run["seconds"] for run in runs)
    cells = (
        run["task"].upper(),
        run["data"],
        label(run["model"]),
        f"{run['parameters']:,}",
        f"{run['steps']:,}",
        len(runs),
        error,
        f"{seconds:.0f}",
    )
    return "| " + " | ".join(map(str, cells)) + " |"

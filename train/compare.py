"""A table over finished runs: the same models under several seeds, side by side."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .experiment import RESULTS
from .plots import LABELS

HEAD = """\
| distortion | data | model | parameters | steps | seeds | test error, % | seconds |
|---|---|---|---:|---:|---:|---:|---:|"""


class ResultsError(Exception):
    """Results that are missing or unreadable."""


def table(paths: Sequence[Path]) -> str:
    """The results in these files, or in these runs' folders, as a Markdown table.

    Runs that differ in nothing but the seed share a line: the mean test error, and its
    sample standard deviation where there are several seeds; the mean time of a run.
    """
    lines: dict[tuple, list[dict[str, Any]]] = defaultdict(list)
    for path in paths:
        results = _read(path)
        config = results["config"]
        for model in results["models"]:
            alike = {k: v for k, v in config.items() if k not in ("seed", "models")}
            key = (model["model"], model["parameters"], json.dumps(alike))
            lines[key].append({**config, **model, "data": results["data"]["name"]})
    return "\n".join([HEAD, *map(_line, lines.values())])


def _line(runs: list[dict[str, Any]]) -> str:
    run, errors = runs[0], [run["test_error"] for run in runs]
    error = f"{statistics.mean(errors):.2f}"
    if len(errors) > 1:
        error += f" ± {statistics.stdev(errors):.2f}"
    seconds = statistics.mean(run["seconds"] for run in runs)
    cells = (
        run["distortion"].upper(),
        run["data"],
        LABELS[run["model"]],
        f"{run['parameters']:,}",
        f"{run['steps']:,}",
        len(runs),
        error,
        f"{seconds:.0f}",
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def _read(path: Path) -> dict[str, Any]:
    file = path / RESULTS if path.is_dir() else path
    try:
        return json.loads(file.read_text())
    except FileNotFoundError:
        raise ResultsError(f"{file}: no such file; has the run ended?") from None
    except (OSError, json.JSONDecodeError) as error:
        raise ResultsError(f"{file} cannot be read: {error}") from error

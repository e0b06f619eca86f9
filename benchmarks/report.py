"""The JSON of a benchmark."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import shlex
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from .timing import queued_calls, spread

Row = dict[str, Any]
OURS, PLAIN = "stn_jax", "plain JAX"  # with the compiled CPU kernel, and without
DETERMINISTIC = "deterministic"  # ours, compiled with XLA's flag
PACKAGES = ("jax", "jaxlib", "flax", "torch", "kornia", "dm-pix", "keras", "scipy")


def summarize(row: Row) -> Row:
    """Replace the seconds of a row's rounds by their quartiles: low, median, high.

    A ratio divides our time, or plain JAX's, by a peer's in the same round, and that of
    the deterministic program by ours.
    """
    times = {name: np.asarray(t) for name, t in row["seconds"].items()}
    ratios = {
        name: {
            peer: _quartiles(times[name] / theirs)
            for peer, theirs in times.items()
            if peer not in (name, OURS, DETERMINISTIC)
        }
        for name in (OURS, PLAIN)
        if name in times
    }
    if DETERMINISTIC in times:
        ratio = _quartiles(times[DETERMINISTIC] / times[OURS])
        ratios[DETERMINISTIC] = {OURS: ratio}
    return {
        **row,
        "compile_seconds": _rounded(row["compile_seconds"]),
        "rounds": len(times[OURS]),
        "seconds": {name: _quartiles(t) for name, t in times.items()},
        "ratios": ratios,
    }


def _quartiles(values: np.ndarray) -> list[float]:
    return [_rounded(value) for value in spread(values)]


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def command(module: str) -> str:
    """The command line that started this program, a module of the benchmarks."""
    return shlex.join(["python", "-m", module, *sys.argv[1:]])


def document(rows: Any, command: str, bandwidth: float | None = None) -> dict[str, Any]:
    """The JSON document: the rows, the machine and the versions."""
    import jax

    from stn_jax.cpu import used
    from stn_jax.sampling import cpu

    is_cpu = jax.default_backend() == "cpu"
    sampler = f", {used()}" if is_cpu else ""
    copied = {} if bandwidth is None else {"copy_bytes_per_second": round(bandwidth)}
    return {
        "command": command,
        "date": today(),
        "machine": f"{_cpu_name()}, {os.cpu_count()} CPU cores{sampler}",
        "device": str(jax.devices()[0].device_kind),
        "queued_calls": queued_calls(),
        "python": platform.python_version(),
        "versions": {name: v for name in PACKAGES if (v := version(name))},
        **copied,
        "kernel": is_cpu and cpu.is_on(),
        "rows": rows,
    }


def _cpu_name() -> str:
    """The model of the CPU, where Linux names it, and its architecture."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return f"{value.strip()} ({platform.machine()})"
    return platform.machine()


def to_json(document: dict[str, Any]) -> str:
    """Indented JSON for line-by-line diffs; a list of numbers takes one line."""
    text = json.dumps(document, indent=1)
    return re.sub(r"\[\s+([\d.e+,\s-]+?)\s+\]", _on_one_line, text) + "\n"


def _on_one_line(numbers: re.Match[str]) -> str:
    return f"[{' '.join(numbers[1].split())}]"


def write_document(path: Path, document: dict[str, Any]) -> None:
    """Write a document, and print where it is."""
    write(path, to_json(document))
    print(f"measurements: {path}")


def write(path: Path, text: str) -> None:
    """Write a file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(text)
    partial.replace(path)


def today() -> str:
    """The current date in ISO 8601."""
    return datetime.now(UTC).date().isoformat()


def version(name: str) -> str | None:
    """Version of a package, or None if it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None

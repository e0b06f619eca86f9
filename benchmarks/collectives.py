"""What devices exchange in a training step: ``python -m benchmarks.collectives``.

It compiles training steps for 1, 2, 4 and 8 virtual devices, and reads the operations
that exchange arrays, with their sizes, from the compiled programs.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import tyro
from rich.progress import track

from train.configs import Config
from train.data import load
from train.models import count_parameters
from train.specs import ModelSpec
from train.trainer import Trainer

from . import report

CASES = (
    ("rts", "cnn"),
    ("rts", "st_cnn-affine"),
    ("tc", "st_cnn-affine"),
)
DEVICES = (1, 2, 4, 8)
BATCHES = (256, 512)
# an operation of XLA with its result, one array or several, such as
# (f32[32]{0}, f32[1,5,5]{2,1,0}) all-reduce(...)
OPERATION = re.compile(
    r"= (\(.*?\)|\S+) (all-reduce|all-gather|all-to-all|collective-permute|"
    r"reduce-scatter)(?:-start)?\("
)
ARRAY = re.compile(r"(pred|[a-z]+(\d+))\[([\d,]*)\]")


@dataclass(frozen=True)
class Options:
    """Compile training steps for several devices, and count what these exchange."""

    out: Path = Path("runs/collectives.json")
    """File for the counts, JSON."""


def main(options: Options) -> None:
    """Compile, count and write."""
    jax.config.update("jax_num_cpu_devices", max(DEVICES))
    cases = [
        (*case, devices, batch)
        for case in CASES
        for devices in DEVICES
        for batch in BATCHES
    ]
    rows = [row(*case) for case in track(cases, "compiling")]
    document = report.document(rows, report.command("benchmarks.collectives"))
    report.write_document(options.out, document)


def row(task: str, model: str, devices: int, batch: int) -> dict[str, object]:
    """The exchanges of a step, by kind: how many operations, and bytes of results."""
    spec = ModelSpec.parse(model)
    config = Config((spec,), task, dataset="digits", steps=100, batch_size=batch)  # pyright: ignore[reportArgumentType]
    trainer = Trainer(replace(config, devices=devices), spec, load("digits"), (0,))
    (work,) = trainer.feed(5).until(0, 5)
    text = trainer.take.lower(trainer.state, *work).compile().as_text()
    return {
        "task": task,
        "model": model,
        "devices": devices,
        "batch_size": batch,
        "parameters": count_parameters(trainer.model),
        "exchanges": exchanges(text),
    }


def exchanges(text: str) -> dict[str, dict[str, int]]:
    """The operations of a compiled program that exchange arrays, by kind."""
    found: dict[str, dict[str, int]] = {}
    for result, kind in OPERATION.findall(text):
        of_kind = found.setdefault(kind, {"operations": 0, "bytes": 0})
        of_kind["operations"] += 1
        of_kind["bytes"] += sum(
            math.prod(int(n) for n in shape.split(",") if n) * int(bits or 8) // 8
            for _, bits, shape in ARRAY.findall(result)
        )
    return found


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))

"""What bounds the sampler and the training steps: ``python -m benchmarks.bounds``.

The sampler reads as many points in small images as in large ones, as they lie and
turned: what the same number takes more in the large ones is time that the memory takes
(turned, some points also lie outside). Of a training step it tells what its matrix
products take, alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.table import Table

import stn_jax

from . import malloc, on_jax, report, training
from .cases import Case
from .timing import in_turn, spread

SMALL = Case(784, (32, 32), 3, (32, 32))  # as many points; an image fits a core's cache
LARGE = Case(16, (224, 224), 3, (224, 224))
PRODUCTS = ("convolution", "addmm", "aten::mm")  # in the names of PyTorch's operations


@dataclass(frozen=True)
class Options:
    """Measure what bounds the sampler and the training steps."""

    out: Path = Path("runs/bounds.json")
    """Where to write what was measured."""


def main(options: Options) -> None:
    """Measure, print, write."""
    malloc.settle("kept")
    points = [
        points_row(case, degrees) for case in (SMALL, LARGE) for degrees in (0, 45)
    ]
    steps = [
        step_row(step) for step in training.plan() if isinstance(step, training.Step)
    ]
    for title, rows in (
        ("nanoseconds for a point, forward", points),
        ("milliseconds for a training step, and its products in %", steps),
    ):
        table = Table(*rows[0], title=title)
        for row in rows:
            table.add_row(*map(str, row.values()))
        report.show(table)
    document = report.document([], 0.0, "python -m benchmarks.bounds")
    del document["copy_bytes_per_second"]
    document["rows"] = {"points": points, "steps": steps}
    report.write(options.out, json.dumps(document, indent=1) + "\n")
    print(f"measurements: {options.out}")


def points_row(case: Case, degrees: float) -> dict[str, Any]:
    """Ours and PyTorch's, in images that are turned."""
    from . import on_torch

    angle = math.radians(degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    theta = np.array([[cos, -sin, 0], [sin, cos, 0]], np.float32)
    grid = stn_jax.affine_grid(np.tile(theta, (case.batch, 1, 1)), case.out_size)
    sampler = on_torch.grid_sample(case)
    thunks = {
        "stn_jax": on_jax.Program(on_jax.ours(case), jnp.asarray(case.image()), grid),
        "PyTorch": on_torch.program(sampler, case, "forward", np.asarray(grid)),
    }
    times = in_turn(thunks, rounds=40, seconds=6)
    count = case.batch * math.prod(case.out_size)
    nanoseconds = {
        name: round(1e9 * spread(t).median / count, 2) for name, t in times.items()
    }
    return {"images": str(case), "turned by": degrees, **nanoseconds}


def step_row(step: training.Step) -> dict[str, Any]:
    """A step of ours beside its products alone; and what PyTorch says of its own."""
    import torch

    function, *arguments = step.ours()
    program = on_jax.Program(function, *arguments)
    products = products_of(jax.make_jaxpr(function)(*arguments).jaxpr)
    theirs = step.theirs()
    thunks = {"stn_jax": program, "products": products, "PyTorch": theirs}
    times = in_turn(thunks, rounds=10, seconds=20)
    seconds = {name: spread(t).median for name, t in times.items()}
    ours = seconds["stn_jax"] / training.STEPS
    with torch.profiler.profile() as profile:
        theirs()
    spent = {entry.key: entry.self_cpu_time_total for entry in profile.key_averages()}
    of_products = sum(
        time for key, time in spent.items() if any(part in key for part in PRODUCTS)
    )
    return {
        "step": str(step),
        "stn_jax": round(1e3 * ours, 1),
        "products": round(100 * seconds["products"] / ours),
        "PyTorch": round(1e3 * seconds["PyTorch"] / training.STEPS, 1),
        "its products": round(100 * of_products / sum(spent.values())),
    }


def products_of(jaxpr: Any) -> on_jax.Program:
    """Every matrix product of a program, a loop's body once, and nothing else."""
    products = [*_products(jaxpr)]
    rng = np.random.default_rng(0)
    operands = [
        [jnp.asarray(rng.normal(size=x.aval.shape), x.aval.dtype) for x in eqn.invars]
        for eqn in products
    ]

    def run(*operands: list[jax.Array]) -> list[jax.Array]:
        return [
            eqn.primitive.bind(*pair, **eqn.params)
            for eqn, pair in zip(products, operands, strict=True)
        ]

    return on_jax.Program(run, *operands)


def _products(jaxpr: Any) -> Iterator[Any]:
    for eqn in jaxpr.eqns:
        if eqn.primitive is jax.lax.dot_general_p:
            yield eqn
        for value in eqn.params.values():
            for inner in value if isinstance(value, tuple | list) else [value]:
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from _products(inner)


if __name__ == "__main__":
    main(tyro.cli(Options))

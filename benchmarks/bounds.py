"""What bounds the sampler and the training steps: ``python -m benchmarks.bounds``.

The sampler runs at equally many points of small and of large images, upright and
rotated by 45 degrees. The additional time for large images is memory access. (Some
sample points of rotated images lie outside.) The matrix products of a training step are
also timed alone.
"""

from __future__ import annotations

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

from . import malloc, on_jax, pages, report, training
from .cases import Case
from .timing import in_turn, queued_calls, spread

SMALL = Case(784, (32, 32), 3, (32, 32))  # an image fits into a core's cache
LARGE = Case(16, (224, 224), 3, (224, 224))  # as many points
PRODUCTS = ("convolution", "addmm", "aten::mm")  # in names of PyTorch operations


@dataclass(frozen=True)
class Options:
    """Measure what bounds the sampler and the training steps."""

    out: Path = Path("runs/bounds.json")
    """File for the measurements, JSON."""


def main(options: Options) -> None:
    """Measure, print and write the results."""
    malloc.configure("kept")
    points = [
        points_row(case, degrees) for case in (SMALL, LARGE) for degrees in (0, 45)
    ]
    steps = [
        step_row(step) for step in training.plan() if isinstance(step, training.Step)
    ]
    for title, rows in (
        ("forward pass, nanoseconds per point", points),
        ("training step in milliseconds, matrix products in %", steps),
    ):
        table = Table(*rows[0], title=title)
        for row in rows:
            table.add_row(*map(str, row.values()))
        pages.show(table)
    rows = {"points": points, "steps": steps}
    document = report.document(rows, report.command("benchmarks.bounds"))
    report.write_document(options.out, document)


def points_row(case: Case, degrees: float) -> dict[str, Any]:
    """Time our sampler and PyTorch's on rotated images."""
    from . import on_torch

    angle = math.radians(degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    theta = np.array([[cos, -sin, 0], [sin, cos, 0]], np.float32)
    grid = stn_jax.affine_grid(np.tile(theta, (case.batch, 1, 1)), case.out_size)
    sampler = on_torch.grid_sample(case)
    image, calls = jnp.asarray(case.image()), queued_calls()
    thunks = {
        "stn_jax": on_jax.Program(on_jax.ours(case), image, grid, calls=calls),
        "PyTorch": on_torch.program(sampler, case, "forward", np.asarray(grid)),
    }
    times = in_turn(thunks, rounds=40, seconds=6, calls=calls)
    count = case.batch * math.prod(case.out_size)
    nanoseconds = {
        name: round(1e9 * spread(t).median / count, 2) for name, t in times.items()
    }
    return {"images": str(case), "degrees": degrees, **nanoseconds}


def step_row(step: training.Step) -> dict[str, Any]:
    """Time our step, its matrix products alone, and PyTorch's step with its profile."""
    import torch

    function, *arguments = step.ours()
    program = on_jax.Program(function, *arguments)
    products = matrix_products(jax.make_jaxpr(function)(*arguments).jaxpr)
    theirs = step.theirs()
    thunks = {"stn_jax": program, "products": products, "PyTorch": theirs}
    times = in_turn(thunks, rounds=10, seconds=20)
    seconds = {name: spread(t).median for name, t in times.items()}
    ours = seconds["stn_jax"] / training.STEPS
    with torch.profiler.profile() as profile:
        theirs()
    spent = {entry.key: entry.self_cpu_time_total for entry in profile.key_averages()}
    matmul = sum(
        time for key, time in spent.items() if any(part in key for part in PRODUCTS)
    )
    return {
        "step": str(step),
        "stn_jax": round(1e3 * ours, 1),
        "stn_jax matmul %": round(100 * seconds["products"] / ours),
        "PyTorch": round(1e3 * seconds["PyTorch"] / training.STEPS, 1),
        "PyTorch matmul %": round(100 * matmul / sum(spent.values())),
    }


def matrix_products(jaxpr: Any) -> on_jax.Program:
    """The matrix products of a program alone; those of a loop's body once."""
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

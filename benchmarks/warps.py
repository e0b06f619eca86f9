"""The whole way from theta to pixels, beside PyTorch: ``python -m benchmarks.warps``.

A warp needs no grid. PyTorch makes one: its affine_grid and its grid_sample together.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import torch
import torch.nn.functional as F
import tyro

from stn_jax import warp
from stn_jax.transforms import Affine

from . import malloc, on_jax, on_torch, report
from .cases import CASES, METHODS, WHATS, Case
from .timing import in_turn, queued_calls, spread

WARPED = [case for case in (*CASES, *METHODS) if not case.shared]


@dataclass(frozen=True)
class Options:
    """Time affine warps in turn with PyTorch's."""

    rounds: int = 20
    """Timed calls of each program, at most."""
    out: Path = Path("runs/warps.json")
    """File for the measurements, JSON."""


def main(options: Options) -> None:
    """Measure, print and write the rows."""
    malloc.configure("kept")
    rows = []
    for case in WARPED:
        for what in WHATS:
            programs = {"stn_jax": ours(case, what), "PyTorch": theirs(case, what)}
            times = in_turn(
                programs, rounds=options.rounds, seconds=5, calls=queued_calls()
            )
            ratio = spread(times["stn_jax"] / times["PyTorch"])
            median = spread(times["stn_jax"]).median
            rows.append(
                {
                    "case": str(case),
                    "what": what,
                    "milliseconds": round(1e3 * median, 3),
                    "of_pytorch": [round(x, 3) for x in ratio],
                }
            )
            print(rows[-1])
    command = " ".join(["python -m benchmarks.warps", *sys.argv[1:]])
    document = report.document(rows, 0, command)
    del document["copy_bytes_per_second"]
    report.write(options.out, report.to_json(document))


def ours(case: Case, what: str) -> on_jax.Program:
    """Our warp; "grid" adds the gradient of theta, "both" those of theta and image."""
    family = Affine(case.ndim)
    theta = jnp.asarray(case.theta()).reshape(case.batch, -1)
    arrays = theta, jnp.asarray(case.image()), jnp.asarray(case.cotangent())

    def function(theta: jax.Array, image: jax.Array) -> jax.Array:
        return warp(image, family, theta, case.out_size, method=case.method)

    def with_gradients(theta: jax.Array, image: jax.Array, bar: jax.Array) -> Any:
        if what == "grid":
            out, pull = jax.vjp(lambda theta: function(theta, image), theta)
        else:
            out, pull = jax.vjp(function, theta, image)
        return out, pull(bar)

    if what == "forward":
        return on_jax.Program(function, *arrays[:2], calls=queued_calls())
    return on_jax.Program(with_gradients, *arrays, calls=queued_calls())


def theirs(case: Case, what: str) -> Callable[[], object]:
    """The same by PyTorch's affine_grid and grid_sample."""
    sampler = on_torch.grid_sample(case)
    shape = [case.batch, case.channels, *case.out_size]

    def sampled(image: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
        return sampler(image, F.affine_grid(theta, shape, align_corners=False))

    return on_torch.program(sampled, case, what, case.theta())


if __name__ == "__main__":
    main(tyro.cli(Options))

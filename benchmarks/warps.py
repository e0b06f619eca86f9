"""The whole way from theta to pixels, beside PyTorch: ``python -m benchmarks.warps``.

A warp needs no grid. PyTorch makes one: its affine_grid and its grid_sample together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import torch
import torch.nn.functional as F
import tyro

from stn_jax import warp
from stn_jax.transforms import Affine

from . import on_jax, on_torch, ratios
from .cases import CASES, METHODS, WHATS, Case

WARPED = [case for case in (*CASES, *METHODS) if not case.shared]


@dataclass(frozen=True)
class Options(ratios.Options):
    """Time affine warps in turn with PyTorch's."""

    out: Path = Path("runs/warps.json")
    """File for the measurements, JSON."""


def main(options: Options) -> None:
    """Measure, print and write the rows."""
    ratios.run("benchmarks.warps", groups(), options, of="PyTorch", seconds=5)


def groups() -> Iterator[ratios.Group]:
    """Ours and PyTorch's, case by case."""
    for case in WARPED:
        for what in WHATS:
            programs = {"stn_jax": ours(case, what), "PyTorch": theirs(case, what)}
            labels = {"stn_jax": {"case": str(case), "what": what}}
            yield ratios.Group(programs, labels)


def ours(case: Case, what: str) -> on_jax.Program:
    """Our warp; "grid" adds the gradient of theta, "both" those of theta and image."""
    family = Affine(case.ndim)
    theta = jnp.asarray(case.theta()).reshape(case.batch, -1)

    def function(image: jax.Array, theta: jax.Array) -> jax.Array:
        return warp(image, family, theta, case.out_size, method=case.method)

    return on_jax.program(function, case, what, theta)


def theirs(case: Case, what: str) -> Callable[[], object]:
    """The same by PyTorch's affine_grid and grid_sample."""
    sampler = on_torch.grid_sample(case)
    shape = [case.batch, case.channels, *case.out_size]

    def sampled(image: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
        return sampler(image, F.affine_grid(theta, shape, align_corners=False))

    return on_torch.program(sampled, case, what, case.theta())


if __name__ == "__main__":
    main(tyro.cli(Options))

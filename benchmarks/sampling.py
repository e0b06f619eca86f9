"""The rows of the sampler and of the grids, beside other libraries."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import stn_jax

from . import on_jax
from .cases import CASES, LARGE, METHODS, SPLINES, WHATS, Case
from .on_jax import Flags, Program
from .timing import Thunk, queued_calls

PEERS = ("PyTorch", "map_coordinates", "dm_pix", "Keras", "kornia")


def plan() -> list[Sampling | Grid]:
    """The rows of the sampler and of the grids."""
    rows: list[Sampling | Grid] = []
    is_cpu = jax.default_backend() == "cpu"
    for case in CASES if is_cpu else (*CASES, *LARGE):
        splined = [replace(case, family="tps")] if case.ndim == 2 else []
        for variant in (case, replace(case, dtype="bfloat16"), *splined):
            rows += [Sampling(variant, what) for what in WHATS]
        rows.append(Sampling(case, "both", vmapped=True))
    rows += [Sampling(case, what) for case in (*METHODS, *SPLINES) for what in WHATS]
    return [*rows, *grids()]


def grids() -> list[Grid]:
    """The rows of affine and thin plate spline grids."""
    cases = (CASES[0], CASES[3])
    return [Grid(replace(c, family=f)) for c in cases for f in ("affine", "tps")]


@dataclass(frozen=True)
class Sampling:
    """A sampler on a case; with ``vmapped``, batched by the caller's ``jax.vmap``."""

    case: Case
    what: str
    vmapped: bool = False
    steps = 1

    def __str__(self) -> str:
        return f"{self.case} {self.what}{' vmap' if self.vmapped else ''}"

    @property
    def labels(self) -> dict[str, Any]:
        """Case, what, channels and bytes."""
        return {
            "case": str(self.case),
            "what": self.what + (" vmap" if self.vmapped else ""),
            "channels": self.case.channels,
            "least_bytes": self.case.least_bytes(self.what),
        }

    @property
    def has_plain(self) -> bool:
        """For affine grids."""
        return self.case.family == "affine" and not self.vmapped

    def program(self, options: Flags | None = None) -> Program:
        """Our sampler."""
        ours = on_jax.ours_vmapped if self.vmapped else on_jax.ours
        return on_jax.program(ours(self.case), self.case, self.what, options=options)

    def peers(self, names: tuple[str, ...]) -> dict[str, Thunk]:
        """Other samplers."""
        found = {name: _peer(name, self.case, self.what) for name in names}
        return {name: thunk for name, thunk in found.items() if thunk is not None}


@dataclass(frozen=True)
class Grid:
    """The sampling grids of a case."""

    case: Case
    steps = 1
    has_plain = False

    def __str__(self) -> str:
        shape = "x".join(map(str, (self.case.batch, *self.case.out_size)))
        return f"{self.case.family}_grid {shape}"

    @property
    def labels(self) -> dict[str, Any]:
        """Case, what, channels and bytes."""
        case = self.case
        return {
            "case": str(self),
            "what": "forward",
            "channels": 0,
            "least_bytes": 4 * case.batch * math.prod(case.out_size) * case.ndim,
        }

    def program(self, options: Flags | None = None) -> Program:
        """Our grids."""
        case, is_tps = self.case, self.case.family == "tps"
        make = stn_jax.tps_grid if is_tps else stn_jax.affine_grid
        theta = jnp.asarray(case.control_points() if is_tps else case.theta())
        return Program(
            lambda theta: make(theta, case.out_size),
            theta,
            calls=queued_calls(),
            options=options,
        )

    def peers(self, names: tuple[str, ...]) -> dict[str, Thunk]:
        """PyTorch's grids; it has affine ones."""
        if "PyTorch" not in names or self.case.family == "tps":
            return {}
        from . import on_torch

        theta, size = self.case.theta(), self.case.out_size
        return {"PyTorch": on_torch.affine_grid(theta, size)}


def _peer(peer: str, case: Case, what: str) -> Thunk | None:
    if peer in ("PyTorch", "kornia"):
        from . import on_torch

        if case.method not in on_torch.MODES:
            return None
        sampler = (on_torch.grid_sample if peer == "PyTorch" else on_torch.remap)(case)
        grid = np.asarray(on_jax.grids(case))
        return sampler and on_torch.program(sampler, case, what, grid)
    if peer == "dense":
        return (of := on_jax.dense(case)) and on_jax.program(of, case, what)
    sampler = {
        "map_coordinates": on_jax.map_coordinates,
        "dm_pix": on_jax.dm_pix,
        "Keras": on_jax.keras,
    }[peer]
    own = on_jax.batched(sampler)(case)
    return own and on_jax.program(own, case, what)

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
from .cases import CASES, LARGE, METHODS, WHATS, Case
from .timing import Thunk, in_turn, queued_calls

PEERS = ("PyTorch", "map_coordinates", "dm_pix", "Keras", "kornia")
Row = dict[str, Any]


def plan() -> list[Sampling | Grid]:
    """The rows of the sampler and of the grids."""
    rows: list[Sampling | Grid] = []
    is_cpu = jax.default_backend() == "cpu"
    for case in CASES if is_cpu else (*CASES, *LARGE):
        splined = [replace(case, family="tps")] if case.ndim == 2 else []
        for variant in (case, replace(case, dtype="bfloat16"), *splined):
            rows += [Sampling(variant, what) for what in WHATS]
        rows.append(Sampling(case, "both", vmapped=True))
    rows += [Sampling(case, what) for case in METHODS for what in WHATS]
    for case in (CASES[0], CASES[3]):
        rows += [Grid(case), Grid(replace(case, family="tps"))]
    return rows


@dataclass(frozen=True)
class Sampling:
    """A sampler on a case; with ``vmapped``, batched by the caller's ``jax.vmap``."""

    case: Case
    what: str
    vmapped: bool = False

    def __str__(self) -> str:
        return f"{self.case} {self.what}{' vmap' if self.vmapped else ''}"

    def measure(self, peers: tuple[str, ...], rounds: int, seconds: float) -> Row:
        """Time our sampler in turn with the peers'."""
        ours = on_jax.ours_vmapped if self.vmapped else on_jax.ours
        programs = on_jax.with_and_without(
            lambda: on_jax.program(ours(self.case), self.case, self.what),
            both=self.case.family == "affine" and not self.vmapped,
        )
        thunks: dict[str, Thunk] = {**programs}
        for peer in peers:
            if (thunk := _peer(peer, self.case, self.what)) is not None:
                thunks[peer] = thunk
        return {
            "case": str(self.case),
            "what": self.what + (" vmap" if self.vmapped else ""),
            "channels": self.case.channels,
            "least_bytes": self.case.least_bytes(self.what),
            **_costs(programs["stn_jax"]),
            "seconds": _seconds(thunks, rounds, seconds),
        }


@dataclass(frozen=True)
class Grid:
    """The sampling grids of a case."""

    case: Case

    def __str__(self) -> str:
        shape = "x".join(map(str, (self.case.batch, *self.case.out_size)))
        return f"{self.case.family}_grid {shape}"

    def measure(self, peers: tuple[str, ...], rounds: int, seconds: float) -> Row:
        """Time our grids in turn with PyTorch's, which has affine grids."""
        case, is_tps = self.case, self.case.family == "tps"
        make = stn_jax.tps_grid if is_tps else stn_jax.affine_grid
        theta = case.control_points() if is_tps else case.theta()
        program = on_jax.Program(
            lambda theta: make(theta, case.out_size),
            jnp.asarray(theta),
            calls=queued_calls(),
        )
        thunks: dict[str, Thunk] = {"stn_jax": program}
        if "PyTorch" in peers and not is_tps:
            from . import on_torch

            thunks["PyTorch"] = on_torch.affine_grid(theta, case.out_size)
        return {
            "case": str(self),
            "what": "forward",
            "channels": 0,
            "least_bytes": 4 * case.batch * math.prod(case.out_size) * case.ndim,
            **_costs(program),
            "seconds": _seconds(thunks, rounds, seconds),
        }


def _seconds(thunks: dict[str, Thunk], rounds: int, seconds: float) -> Any:
    return in_turn(thunks, rounds=rounds, seconds=seconds, calls=queued_calls())


def _costs(program: on_jax.Program) -> dict[str, Any]:
    return {
        "temporary_bytes": program.temporary_bytes,
        "compile_seconds": program.compile_seconds,
    }


def _peer(peer: str, case: Case, what: str) -> Thunk | None:
    if peer in ("PyTorch", "kornia"):
        from . import on_torch

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

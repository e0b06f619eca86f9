"""Measure a row: our program in turn with its peers, or with its deterministic form."""

from __future__ import annotations

import time
from typing import Any, Protocol

import numpy as np

from . import on_jax
from .on_jax import DETERMINISTIC, Flags, Program
from .timing import Thunk, in_turn

Measured = dict[str, Any]
IN_TURN = 0.6  # seconds that all calls of a measurement may take to be timed in turn


class Row(Protocol):
    """A program of ours that is timed, and what it is compared with."""

    @property
    def labels(self) -> dict[str, Any]:
        """Its case and what is computed, its channels, and the least bytes to move."""
        ...

    @property
    def steps(self) -> int:
        """How many steps a call of its program makes; the row holds the time of one."""
        ...

    @property
    def has_plain(self) -> bool:
        """Whether it is timed without the compiled CPU kernel as well."""
        ...

    def program(self, options: Flags | None = None) -> Program:
        """Our program, compiled with XLA's flags."""
        ...

    def peers(self, names: tuple[str, ...]) -> dict[str, Thunk]:
        """The same by other libraries, by those that can do it."""
        ...


def measure(
    row: Row, peers: tuple[str, ...], *, rounds: int, seconds: float
) -> Measured:
    """Time our program in turn with the peers'."""
    programs = on_jax.with_and_without(row.program, both=row.has_plain)
    ours = programs["stn_jax"]
    thunks = {**programs, **row.peers(peers)}
    calls = ours.calls * row.steps
    times = in_turn(thunks, rounds=rounds, seconds=seconds, calls=calls)
    return _measured(row, ours, times)


def measure_deterministic(row: Row, *, rounds: int, seconds: float) -> Measured:
    """Time our program in turn with the same under XLA's flag for determinism.

    A program whose calls would take more than ``IN_TURN`` is run once. XLA's
    deterministic scatters may be loops over the points.
    """
    ours, fixed = row.program(), row.program(DETERMINISTIC)
    taken = _seconds_of_one_call(fixed)
    is_slow = taken * fixed.calls > IN_TURN
    thunks = {"stn_jax": ours} if is_slow else {"stn_jax": ours, "deterministic": fixed}
    calls = ours.calls * row.steps
    times = in_turn(thunks, rounds=rounds, seconds=seconds, calls=calls)
    if is_slow:
        times["deterministic"] = np.array([taken / row.steps])
    return _measured(row, ours, times)


def _seconds_of_one_call(program: Program) -> float:
    taken = 0.0
    for _ in range(2):  # the first call loads the program
        start = time.perf_counter()
        program.once()
        taken = time.perf_counter() - start
        if taken > 1:
            break
    return taken


def _measured(row: Row, ours: Program, times: dict[str, np.ndarray]) -> Measured:
    return {
        **row.labels,
        "temporary_bytes": ours.temporary_bytes,
        "compile_seconds": ours.compile_seconds,
        "seconds": times,
    }

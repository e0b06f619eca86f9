"""Timings in turn, A B A B, so that a machine's moods meet all alike."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

Thunk = Callable[[], object]
SETTLING = 0.03  # seconds, before each timed call


class Spread(NamedTuple):
    """A median and the quartiles around it."""

    low: float
    median: float
    high: float


def in_turn(
    thunks: Mapping[str, Thunk], *, rounds: int, seconds: float
) -> dict[str, np.ndarray]:
    """The seconds that each call took, round by round.

    Each round times one call of every one, after some that are not timed; as many
    rounds as asked for, or fewer once each has had ``seconds``.
    """
    for thunk in [*thunks.values()] * 2:
        thunk()
    taken: dict[str, list[float]] = {name: [] for name in thunks}
    end = time.perf_counter() + seconds * len(thunks)
    for done in range(rounds):
        if done >= 3 and time.perf_counter() > end:
            break
        for name, thunk in thunks.items():
            _settle(thunk)
            start = time.perf_counter()
            thunk()
            taken[name].append(time.perf_counter() - start)
    return {name: np.array(times) for name, times in taken.items()}


def _settle(thunk: Thunk) -> None:
    """Call it, untimed, until no thread of the one before takes a core from it.

    Threads that wait for more work, as OpenMP's do, spin for some milliseconds.
    """
    end = time.perf_counter() + SETTLING
    while True:
        thunk()
        if time.perf_counter() > end:
            break


def spread(values: np.ndarray) -> Spread:
    """The median and the quartiles."""
    return Spread(*np.quantile(values, [0.25, 0.5, 0.75]).tolist())


def copy_bandwidth(megabytes: int = 256) -> float:
    """Bytes a second that the best copy of a large array reads and writes together.

    On a CPU by all cores, into memory that is there; what a program must ask for anew,
    as most do, takes longer.
    """
    import jax
    import jax.numpy as jnp

    if jax.default_backend() == "cpu":
        cores = os.cpu_count() or 1
        sources = [
            np.ones(megabytes * 2**18 // cores, np.float32) for _ in range(cores)
        ]
        targets = [np.ones_like(source) for source in sources]
        with ThreadPoolExecutor(cores) as pool:
            times = in_turn(
                {"": lambda: [*pool.map(np.copyto, targets, sources)]},
                rounds=20,
                seconds=3,
            )
    else:
        x = jnp.ones(megabytes * 2**18, jnp.float32)
        copy = jax.jit(lambda x: -x)
        times = in_turn({"": lambda: copy(x).block_until_ready()}, rounds=20, seconds=3)
    return 2 * megabytes * 2**20 / float(times[""].min())

"""Timings in turn, A B A B: a change of the machine's speed affects all programs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

Thunk = Callable[[], object]
WARM_UP = 0.03  # seconds of untimed calls before each timed call


class Spread(NamedTuple):
    """Quartiles and the median."""

    low: float
    median: float
    high: float


def queued_calls() -> int:
    """Calls of one program that are timed together, before their results are awaited.

    On a GPU or TPU a call only queues its work, and launching it can take longer than
    the work itself. With several calls in the queue the time is the larger of the two.
    """
    import jax

    return 1 if jax.default_backend() == "cpu" else 20


def in_turn(
    thunks: Mapping[str, Thunk], *, rounds: int, seconds: float, calls: int = 1
) -> dict[str, np.ndarray]:
    """Seconds of each program's call, round by round.

    A thunk makes ``calls`` calls.

    Each round times one call of each program, after untimed calls. There are ``rounds``
    rounds, or fewer (at least 3) once each program has had ``seconds``.
    """
    for thunk in [*thunks.values()] * 2:
        thunk()
    taken: dict[str, list[float]] = {name: [] for name in thunks}
    end = time.perf_counter() + seconds * len(thunks)
    for done in range(rounds):
        if done >= 3 and time.perf_counter() > end:
            break
        for name, thunk in thunks.items():
            _warm_up(thunk)
            start = time.perf_counter()
            thunk()
            taken[name].append(time.perf_counter() - start)
    return {name: np.array(times) / calls for name, times in taken.items()}


def _warm_up(thunk: Thunk) -> None:
    """Call a program until no thread of the previous one occupies a core.

    Threads that wait for work, as OpenMP's do, spin for some milliseconds.
    """
    end = time.perf_counter() + WARM_UP
    while True:
        thunk()
        if time.perf_counter() > end:
            break


def spread(values: np.ndarray) -> Spread:
    """The median and the quartiles."""
    return Spread(*np.quantile(values, [0.25, 0.5, 0.75]).tolist())


def copy_bandwidth(megabytes: int = 256) -> float:
    """Bytes per second that the fastest copy of a large array reads plus writes.

    On a CPU, all cores copy into memory that is already mapped.
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
        calls = queued_calls()
        copies = lambda: [copy(x) for _ in range(calls)][-1].block_until_ready()  # noqa: E731
        times = in_turn({"": copies}, rounds=20, seconds=3, calls=calls)
    return 2 * megabytes * 2**20 / float(times[""].min())

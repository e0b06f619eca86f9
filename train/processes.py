"""Several processes that train together: how they meet, agree, and end.

Each runs the same command and holds some of the devices. The first one alone writes.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from .configs import Training
from .errors import ConfigError, DataError, Lost, OutOfMemory, OutputError, ResultsError

WAIT = 45  # seconds in which all processes must come
HEARTBEAT = 20  # seconds without a sign of life, after which a process counts as lost
# what XLA, Gloo, NCCL and JAX's service say when another process is gone
_GONE = re.compile(r"gloo|nccl|collective|coordination|unavailable|connection", re.I)

GO_ON = (
    "What was saved is kept. Start the command again, a run with --resume, in any "
    "number of processes"
)
_WATCHER = """
import sys

if sys.stdin.read() != "goodbye":
    print(sys.argv[1], file=sys.stderr)
"""
_watchers: list[subprocess.Popen[bytes]] = []

T = TypeVar("T")


def join(config: Training) -> None:
    """Meet the other processes, if there are some, before JAX finds its devices.

    Their number and addresses are those of the settings, of SLURM's srun, or of Cloud
    TPU, whose environment variables jax reads.

    Raises:
      ConfigError: the settings do not go together, or the address cannot be used. The
        process ends if the others do not come within 45 seconds.
    """
    by_hand = (config.coordinator, config.processes, config.process)
    if any(value is not None for value in by_hand):
        _check_address(*by_hand)
    elif not _launched():
        return
    if jax.distributed.is_initialized():
        return
    with _deadline(WAIT, _nobody_came(config)):
        try:
            jax.distributed.initialize(
                *by_hand,
                initialization_timeout=2 * WAIT,
                heartbeat_timeout_seconds=HEARTBEAT,
            )
        except (RuntimeError, ValueError) as error:
            raise ConfigError(
                f"the processes cannot meet at {config.coordinator}: {error}"
            ) from error
    _watch()


def _check_address(
    coordinator: str | None, count: int | None, index: int | None
) -> None:
    if coordinator is None or count is None or index is None:
        raise ConfigError(
            "--coordinator, --processes and --process go together; got "
            f"{coordinator}, {count} and {index}"
        )
    if not re.fullmatch(r".+:\d+", coordinator):
        raise ConfigError(f"--coordinator must be HOST:PORT; got {coordinator}")
    if index >= count:
        raise ConfigError(
            f"--process must be from 0 to {count - 1}, as --processes is {count}; got "
            f"{index}"
        )


def _launched() -> bool:
    """Whether srun, or Cloud TPU, has started this program in several processes."""
    of_slurm = "SLURM_PROCID" in os.environ and "SLURM_STEP_NODELIST" in os.environ
    if of_slurm and int(os.environ.get("SLURM_NTASKS", 1)) > 1:
        return True
    names = os.environ.get("TPU_PROCESS_ADDRESSES") or os.environ.get(
        "TPU_WORKER_HOSTNAMES", ""
    )
    return "," in names


def _nobody_came(config: Training) -> str:
    if config.coordinator is None:
        return (
            f"error: the processes have not met within {WAIT} seconds. Do all of them "
            "run, and can they reach one another?"
        )
    if config.process == 0:
        return (
            f"error: process 0 of {config.processes}: not all others came to "
            f"{config.coordinator} within {WAIT} seconds. Start each with this "
            "--coordinator and --processes, and --process 1, 2, ..."
        )
    return (
        f"error: process {config.process} of {config.processes}: nobody answers at "
        f"{config.coordinator} for {WAIT} seconds. Does process 0 run there, and is "
        "the port open?"
    )


@contextmanager
def _deadline(seconds: float, words: str) -> Iterator[None]:
    """End the process with these words if the context takes longer.

    The calls in it do not return, and JAX's own end is a trace of C++.
    """

    def end() -> None:
        print(words, file=sys.stderr, flush=True)
        os._exit(1)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _watch() -> None:
    """Say what has happened if this process ends without a word.

    JAX ends it by a signal, with a trace of C++, when another one does not answer. So a
    small program waits for the end of a pipe, which the system closes.
    """
    words = f"error: {name()}ended by a signal or by JAX. {GO_ON}"
    watcher = subprocess.Popen(
        [sys.executable, "-c", _WATCHER, words],
        stdin=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is not for it
    )
    _watchers.append(watcher)
    atexit.register(_say_goodbye)


def _say_goodbye() -> None:
    for watcher in _watchers:
        with suppress(OSError):
            watcher.communicate(b"goodbye")
    _watchers.clear()


def are_several() -> bool:
    """Whether other processes train along."""
    return jax.process_count() > 1


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return jax.process_index() == 0


def name() -> str:
    """This process, as errors name it; empty if it is the only one."""
    if not are_several():
        return ""
    return f"process {jax.process_index()} of {jax.process_count()}: "


@contextmanager
def preparing() -> Iterator[None]:
    """A context for what each process does by itself: if one fails, all end.

    Raises:
      ConfigError: of several processes, in each, with the error of the one that failed.
    """
    failure = None
    try:
        yield
    except (ConfigError, DataError, OutputError, ResultsError) as error:
        if not are_several():
            raise
        failure = error
    if not are_several():
        return
    texts = _of_all(str(failure) if failure else "")
    if failure:
        raise ConfigError(str(failure)) from failure
    for index, text in enumerate(texts):
        if text:
            raise ConfigError(f"process {index} has ended: {text}")


def agree(settings: Mapping[str, Any]) -> None:
    """Raise ConfigError, in each process, unless all have the same settings."""
    if not are_several():
        return
    first, *others = map(json.loads, _of_all(json.dumps(settings, default=str)))
    for index, other in enumerate(others, start=1):
        differ = [k for k in first if str(first[k]) != str(other.get(k))]
        if differ:
            what = "; ".join(
                f"{k} is {other.get(k)} in process {index}, {first[k]} in process 0"
                for k in differ
            )
            raise ConfigError(f"the processes do not agree: {what}")


def of_first(value: T) -> T:
    """What the first process has, in each: anything that JSON holds."""
    if not are_several():
        return value
    return json.loads(_of_all(json.dumps(value if is_first() else None))[0])


def arrays_of_first(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays that the first process has, in each."""
    if not are_several():
        return {**arrays}
    kinds = of_first([[k, x.dtype.name, x.shape] for k, x in arrays.items()])
    own = arrays if is_first() else {k: np.zeros(size, kind) for k, kind, size in kinds}
    return {
        name: np.asarray(multihost_utils.broadcast_one_to_all(own[name]))
        for name, _, _ in kinds
    }


def largest(*numbers: int) -> list[int]:
    """The largest of each of these numbers over all processes."""
    if not are_several():
        return [*numbers]
    found = multihost_utils.process_allgather(np.array(numbers, np.int32))
    return [int(n) for n in np.asarray(found).max(axis=0)]


def _of_all(text: str) -> list[str]:
    content = np.frombuffer(text.encode(), np.uint8)
    (longest,) = largest(len(content))
    padded = np.zeros(longest + 1, np.uint8)
    padded[: len(content)] = content
    rows = np.asarray(multihost_utils.process_allgather(padded))
    return [row.tobytes().rstrip(b"\0").decode() for row in rows]


@contextmanager
def watched(what: str) -> Iterator[None]:
    """A context that says what the errors of devices and other processes mean.

    Raises:
      OutOfMemory: a device has too little memory for ``what``.
      Lost: another process no longer answers.
    """
    try:
        yield
    except (RuntimeError, ValueError) as error:
        text = str(error)
        if "RESOURCE_EXHAUSTED" in text or "Out of memory" in text:
            raise OutOfMemory(
                f"{what} needs more memory than a device has. Try a smaller "
                "--batch-size, more parts with --accumulate, or --precision bfloat16 "
                f"({text.splitlines()[0]})"
            ) from error
        if are_several() and _GONE.search(text):
            raise Lost(
                "another process no longer answers, so this one ends too. "
                f"{GO_ON} ({text.splitlines()[0]})"
            ) from error
        raise


def end(status: int) -> None:
    """End at once, so that the others notice; JAX would wait for them."""
    if jax.distributed.is_initialized():
        _say_goodbye()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

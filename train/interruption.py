"""Ctrl-C and SIGTERM during a training: it stops where its state can be saved."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """A context in which SIGINT and SIGTERM are noted instead of ending the process.

    A second signal of the same kind has its usual effect. Outside the main thread,
    which alone receives signals, the context does nothing.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        """The number of the signal that has arrived."""
        self._earlier: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            self._earlier = {s: signal.signal(s, self._note) for s in SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        signal.signal(number, self._earlier[number])
        name = signal.Signals(number).name
        print(f"{name}: stopping after the current steps ...", file=sys.stderr)

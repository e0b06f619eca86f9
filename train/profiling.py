"""A profile of some training steps, for TensorBoard, XProf or Perfetto."""

from __future__ import annotations

from pathlib import Path

import jax


class Profile:
    """A context that records some of the programs that run in it.

    A program takes several steps and is recorded as a whole. The first one is left out,
    because it is compiled.
    """

    def __init__(self, folder: Path | None, steps: int) -> None:
        self.folder, self.left = folder, steps if folder else 0
        self.programs = 0
        self.is_recording = False

    def __enter__(self) -> Profile:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop()

    def begin_program(self) -> None:
        """Start recording, if it is time."""
        if self.folder and self.left > 0 and self.programs and not self.is_recording:
            jax.profiler.start_trace(str(self.folder), create_perfetto_trace=True)
            self.is_recording = True
        self.programs += 1

    def end_program(self, steps: int) -> None:
        """Count the steps of a program that has ended; stop when there are enough."""
        if self.is_recording:
            self.left -= steps
            if self.left <= 0:
                self._stop()

    def _stop(self) -> None:
        if self.is_recording:
            jax.profiler.stop_trace()
            self.is_recording = False

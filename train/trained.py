"""What a training returns: the model, its kept states and the record."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from flax import nnx

from .specs import ModelSpec

Row = dict[str, Any]  # metrics, as a line of metrics.jsonl holds them


class Snapshots(NamedTuple):
    """A model's transformations of some held-out images in the course of its training.

    The images are from the validation part or, without one, from the test set.
    """

    images: np.ndarray
    """``(n, *canvas, C)``, of different classes as far as possible."""
    labels: np.ndarray
    """``(n,)``, or ``(n, places)`` of house numbers."""
    predictions: np.ndarray
    """The classes that the chosen state predicts, in the labels' shape."""
    steps: np.ndarray
    """The steps after which the parameters were recorded, ``(T,)``."""
    params: np.ndarray
    """Parameters of the ``K`` transformers that sample the input, ``(T, K, n, P)``."""
    size: tuple[int, ...]
    """The size of these transformers' output."""
    chosen: int
    """The index in ``steps`` of the chosen state."""
    classes: tuple[str, ...]
    """The names of the classes."""


class Kept(NamedTuple):
    """A state of a model whose weights are stored."""

    step: int
    validation_error: float | None
    """In percent; None without a validation part."""
    params: nnx.State
    """On the host."""


class Trained(NamedTuple):
    """A trained model and the record of its training."""

    spec: ModelSpec
    seed: int
    model: nnx.Module
    """The chosen state: of lowest validation error, or the last."""
    rows: list[Row]
    """The metrics, as ``fit`` reports them."""
    predictions: np.ndarray
    """The classes that the chosen state predicts for the test examples, ``(N,)``, or
    ``(N, places)`` of house numbers."""
    test_error: float
    """Of the chosen state, in percent."""
    best: list[Kept]
    """The states of lowest validation error, the best first; none without a
    validation part."""
    last: Kept
    """The state after the last step."""
    parameters: int
    seconds: float
    """Time of compilation, training and evaluations, divided by the number of seeds
    that were trained in parallel."""
    snapshots: Snapshots

    @property
    def chosen(self) -> Kept:
        """The state that is reported."""
        return self.best[0] if self.best else self.last

    def row_of(self, kept: Kept) -> Row:
        """The metrics when a state was kept."""
        return next(row for row in self.rows if row["step"] == kept.step)

    @property
    def collapse(self) -> str | None:
        """What is wrong with a transformer that has lost the images; None if fine."""
        last = self.rows[-1]
        if last["blank"] > 50:
            return f"its output is blank for {last['blank']:.0f}% of the images"
        if last["outside"] > 90:
            return f"{last['outside']:.0f}% of its grid lies outside the images"
        return None

    @property
    def is_memorized(self) -> bool:
        """Whether the model knows its training images by heart, and no others."""
        end = self.rows[-max(len(self.rows) // 10, 1) :]
        held_out = self.chosen.validation_error
        held_out = self.test_error if held_out is None else held_out
        return max(row["error"] for row in end) == 0 and held_out >= 0.5

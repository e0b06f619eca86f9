"""Errors by class: the confusion matrix, and numbers that follow from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

ANNOTATED = 20  # classes up to which a figure shows the counts
NAMED = 50  # classes up to which a figure shows the names


class OfClass(NamedTuple):
    """Results for the images of a class."""

    name: str
    images: int
    error: float | None
    """Misclassified images, in percent; None if there are no images."""
    precision: float | None
    """Images of the class among those predicted as it, in percent; None if none is."""
    recall: float | None
    """Images predicted as the class among its images, in percent."""
    confused_with: str | None
    """The most frequent wrong prediction; None if there is no error."""
    confused: int
    """The number of these predictions."""


def counts_of(labels: np.ndarray, predictions: np.ndarray, count: int) -> np.ndarray:
    """The confusion matrix ``(count, count)``: images by label and by prediction."""
    return confusion_matrix(labels, predictions, labels=np.arange(count))


def by_class(
    labels: np.ndarray, predictions: np.ndarray, classes: Sequence[str]
) -> list[OfClass]:
    """The results of each class, in the classes' order.

    Args:
      labels: ``(N,)``.
      predictions: ``(N,)``.
      classes: the names of the classes.
    """
    scores = precision_recall_fscore_support(
        labels,
        predictions,
        labels=np.arange(len(classes)),
        zero_division=np.nan,  # pyright: ignore[reportArgumentType]
    )
    precision, recall, images = (np.asarray(scores[at]) for at in (0, 1, 3))
    wrong = counts_of(labels, predictions, len(classes))
    np.fill_diagonal(wrong, 0)
    found = []
    for index, name in enumerate(classes):
        other = int(wrong[index].argmax())
        confused = int(wrong[index, other])
        found.append(
            OfClass(
                name=name,
                images=int(images[index]),
                error=_percent(1 - recall[index]),
                precision=_percent(precision[index]),
                recall=_percent(recall[index]),
                confused_with=classes[other] if confused else None,
                confused=confused,
            )
        )
    return found


def _percent(share: float) -> float | None:
    return None if math.isnan(share) else round(100 * float(share), 4)


def confusion_figure(counts: np.ndarray, classes: Sequence[str], title: str) -> Figure:
    """Draw a confusion matrix: the colors are shares of each row.

    Up to 20 classes, the cells show the numbers of images.

    Args:
      counts: images by label and by prediction, ``(classes, classes)``.
      classes: the names of the classes.
      title: written above.
    """
    count = len(classes)
    side = 1.8 + min(max(0.42 * count, 3), 12)
    figure = Figure((side + 0.6, side), layout="constrained")
    axes = figure.subplots()
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    # a linear scale would hide the errors of a good model
    scale = PowerNorm(0.4, vmin=0, vmax=100)
    image = axes.imshow(shares, cmap="Blues", norm=scale)
    ticks = (0, 1, 5, 20, 50, 100)
    figure.colorbar(image, label="% of the class's images", ticks=ticks, shrink=0.8)
    axes.set_title(title, fontsize=11)
    axes.set(xlabel="predicted class", ylabel="true class")
    if count <= NAMED:
        _name_the_ticks(axes, classes)
    if count <= ANNOTATED:
        for (row, column), number in np.ndenumerate(counts):
            is_dark = scale(shares[row, column]) > 0.6
            axes.text(
                column,
                row,
                f"{number}" if number else "",
                ha="center",
                va="center",
                fontsize=8 if counts.max() < 1000 else 7,
                color="white" if is_dark else "black",
            )
    return figure


def _name_the_ticks(axes: Axes, classes: Sequence[str]) -> None:
    """Write the classes' names at both axes."""
    places = range(len(classes))
    is_long = max(map(len, classes)) > 3
    axes.set_yticks(places, classes, fontsize=9, parse_math=False)
    axes.set_xticks(
        places, classes, fontsize=9, rotation=90 if is_long else 0, parse_math=False
    )

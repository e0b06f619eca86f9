"""Figures: what the transformers look at, and how training went."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from stn_jax import to_pixels
from stn_jax.nnx import SpatialTransformer

from .loop import Row, Trained
from .models import STCNN

LABELS = {
    "cnn": "CNN",
    "st_cnn-affine": "ST-CNN affine",
    "st_cnn-tps": "ST-CNN TPS",
}


def look(
    trained: Sequence[Trained], images: jax.Array, labels: np.ndarray, count: int = 10
) -> Figure:
    """What the models saw of some test images, and what they took them for.

    The images as they came, with their true labels; then two rows for each transformer:
    the outline of its sampling grid on the image, with its upper edge in red, and what
    it read there, with the predicted label. Wrong predictions are red.

    Args:
      trained: the models, with their predictions for all test images.
      images: all test images ``(N, H, W, C)``, distorted.
      labels: their classes ``(N,)``.
      count: how many to show, of different classes as far as there are so many.
    """
    shown = _examples(labels, count)
    images, labels = images[shown], labels[shown]
    transformers = [
        (run, run.model.transformer) for run in trained if isinstance(run.model, STCNN)
    ]
    rows = 1 + 2 * len(transformers)
    figure = Figure((1.05 * len(shown) + 1, 1.25 * rows + 0.3), layout="constrained")
    grid = figure.subplots(rows, len(shown), squeeze=False)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    grid[0, 0].set_ylabel("input")
    for axes, image, label in zip(grid[0], images, labels, strict=True):
        _show(axes, image)
        axes.set_title(f"{label}", fontsize=12)
    for run in trained:
        if not isinstance(run.model, STCNN):
            _predictions(grid[0], run, shown, labels)
    for (run, transformer), above, below in zip(
        transformers, grid[1::2], grid[2::2], strict=True
    ):
        above[0].set_ylabel(f"{LABELS[run.name]}\nlooks here")
        below[0].set_ylabel("and sees")
        params = transformer.localize(images)
        outlines = _outlines(transformer, images, params)
        for axes, image, outline in zip(above, images, outlines, strict=True):
            _show(axes, image)
            _draw(axes, outline, image.shape)
        for axes, image in zip(below, transformer.warp(images, params), strict=True):
            _show(axes, image)
        _predictions(below, run, shown, labels)
    return figure


def _examples(labels: np.ndarray, count: int) -> np.ndarray:
    """The first image of each class, filled up with the first of all."""
    _, first = np.unique(labels, return_index=True)
    others = np.setdiff1d(np.arange(len(labels)), first)
    return np.concatenate([first, others])[:count]


def _outlines(
    transformer: SpatialTransformer, images: jax.Array, params: jax.Array
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each grid's upper edge and the rest of its outline, in pixels of the image."""
    corners = transformer.align_corners
    size = transformer.size or images.shape[1:3]
    grid = transformer.transform.grid(params, size, align_corners=corners)
    grid = np.asarray(to_pixels(grid, images.shape[1:3], align_corners=corners))
    right, lower, left = grid[:, :, -1], grid[:, -1, ::-1], grid[:, ::-1, 0]
    rest = np.concatenate([right, lower, left], axis=1)
    return list(zip(grid[:, 0], rest, strict=True))


def _draw(
    axes: Axes, outline: tuple[np.ndarray, np.ndarray], shape: Sequence[int]
) -> None:
    upper, rest = outline
    axes.plot(*rest.T, color="#ffd500", linewidth=1.4)
    axes.plot(*upper.T, color="#ff3030", linewidth=2)
    height, width, _ = shape
    axes.set_xlim(-0.2 * width, 1.2 * width)  # room for what reaches beyond the image
    axes.set_ylim(1.2 * height, -0.2 * height)
    axes.set_facecolor("#303048")


def _show(axes: Axes, image: np.ndarray | jax.Array) -> None:
    pixels = np.asarray(image, np.float32).clip(0, 1)
    if pixels.shape[-1] != 3:  # not colors
        pixels = pixels.mean(axis=-1)
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=1)


def _predictions(
    row: Sequence[Axes], run: Trained, shown: np.ndarray, labels: np.ndarray
) -> None:
    for axes, guess, label in zip(row, run.predictions[shown], labels, strict=True):
        color = "black" if guess == label else "#d00000"
        axes.set_xlabel(f"{LABELS[run.name].split()[0]}: {guess}", color=color)


def curves(trained: Sequence[Trained]) -> Figure:
    """Training loss and test error against steps, for all models."""
    figure = Figure((10, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for index, run in enumerate(trained):
        color, label = f"C{index}", LABELS[run.name]
        tested = [row for row in run.rows if "test_error" in row]
        left.plot(*_against_steps(run.rows, "loss"), color, label=label, linewidth=1)
        label = f"{label}, {run.test_error:.2f}% at the end"
        right.plot(
            *_against_steps(tested, "test_error"), ".-", color=color, label=label
        )
    left.set(xlabel="step", ylabel="training loss")
    right.set(xlabel="step", ylabel="test error, %")
    for axes in (left, right):
        if all(np.min(line.get_ydata()) > 0 for line in axes.lines):
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.3, which="both")
        axes.legend(frameon=False)
    return figure


def _against_steps(rows: Sequence[Row], name: str) -> tuple[list[int], list[float]]:
    return [row["step"] for row in rows], [row[name] for row in rows]

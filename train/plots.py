"""Figures: sampling grids and outputs on test images; loss and error by step."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.offsetbox import AnchoredOffsetbox, TextArea, VPacker
from matplotlib.ticker import LogLocator, NullFormatter

from stn_jax import warp
from stn_jax.drawing import draw_image, draw_outline, outline

from .data.arrays import label_text
from .models import transform_of
from .specs import ModelSpec
from .trained import Row, Snapshots, Trained

FRAMES = 50
BACKGROUND = "#303048"


def transformer_figure(snapshots: dict[ModelSpec, Snapshots]) -> Figure:
    """Draw the models' sampling grids and outputs for some held-out images.

    The first row shows the images with their classes. Two rows follow for each
    transformer: the outline of its sampling grid on the image, with the upper edge in
    red; and its output, with the predicted class. Wrong predictions are red. Volumes
    are averaged along their depth.
    """
    first = next(iter(snapshots.values()))
    rows = 1 + 2 * sum(of.params.shape[1] for of in snapshots.values())
    figure, grid = _grid_of_axes(rows, len(first.labels))
    _input_row(grid[0], first.images)
    for axes, truth in zip(grid[0], first.labels, strict=True):
        axes.set_title(_short(label_text(truth, first.classes)), fontsize=12)
    below_input, at = [], 1
    for spec, of in snapshots.items():
        if of.params.shape[1] == 0:
            below_input.append((spec, of))
            continue
        for params in of.params[of.chosen]:
            _transformer_rows(grid[at : at + 2], spec, of.images, params, of.size)
            at += 2
        grid[at - 1, 0].set_ylabel("output,\nprediction")
        _predictions(grid[at - 1], [("", of)])
    named = [(f"{spec.kind_label}: ", of) for spec, of in below_input]
    _predictions(grid[0], named)
    return figure


def prediction_figure(
    spec: ModelSpec,
    images: np.ndarray,
    params: np.ndarray,
    size: Sequence[int],
    titles: Sequence[str],
    captions: Sequence[str],
) -> Figure:
    """Draw a trained model's sampling grids and outputs for images of unknown classes.

    Args:
      spec: the model.
      images: ``(n, *canvas, C)`` in [0, 1].
      params: parameters of the ``K`` transformers that sample the input, ``(K, n, P)``.
        With K = 0 the images are drawn alone.
      size: the size of these transformers' output.
      titles: the images' names, written above them.
      captions: the predictions, written below.
    """
    figure, grid = _grid_of_axes(max(2 * len(params), 1), len(images), width=1.25)
    if len(params) == 0:
        _input_row(grid[0], images)
    for index, of_transformer in enumerate(params):
        rows = grid[2 * index : 2 * index + 2]
        _transformer_rows(rows, spec, images, of_transformer, size)
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=8, parse_math=False)
    for axes, caption in zip(grid[-1], captions, strict=True):
        axes.set_xlabel(caption, fontsize=10, parse_math=False)
    return figure


def _grid_of_axes(
    rows: int, columns: int, width: float = 1.05
) -> tuple[Figure, np.ndarray]:
    """A figure of axes ``(rows, columns)`` for images, without ticks."""
    size = (width * columns + 1, 1.25 * rows + 0.3)
    figure = Figure(size, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    return figure, grid


def _input_row(row: np.ndarray, images: np.ndarray) -> None:
    row[0].set_ylabel("input")
    for axes, image in zip(row, images, strict=True):
        _show(axes, image)


def _short(name: str) -> str:
    """A class's name as far as there is room for it."""
    return name if len(name) <= 10 else f"{name[:9]}…"


def _transformer_rows(
    rows: np.ndarray,
    spec: ModelSpec,
    images: np.ndarray,
    params: np.ndarray,
    size: Sequence[int],
) -> None:
    """Draw the sampling grid on each image in the first row, the output below."""
    grid = "sampling grid"
    name = textwrap.fill(spec.label, len(grid))  # longer lines would part the rows
    rows[0, 0].set_ylabel(f"{name}\n{grid}")
    rows[1, 0].set_ylabel("output")
    grids, warped = grids_and_warped(spec, images, params, size)
    for axes, image, of_image in zip(rows[0], images, grids, strict=True):
        _show(axes, image)
        _draw(axes, of_image, image.shape[-3:-1])
    for axes, image in zip(rows[1], warped, strict=True):
        _show(axes, image)


def animate(
    spec: ModelSpec, snapshots: Snapshots, path: Path, seconds: float = 10.0
) -> None:
    """Draw a GIF of a transformer in the course of the training.

    The upper row shows the images with the outline of the sampling grid, the lower row
    the transformer's output.
    """
    columns = len(snapshots.labels)
    figure = Figure((0.8 * columns, 2.0), layout="constrained")
    above, below = figure.subplots(2, columns)
    for axes in (*above, *below):
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    images, size = snapshots.images, snapshots.size
    grids, warped = grids_and_warped(spec, images, snapshots.params[0, 0], size)
    shape = images.shape[-3:-1]
    lines, pictures = [], []
    for column, image in enumerate(images):
        _show(above[column], image)
        lines.append(_draw(above[column], grids[column], shape))
        pictures.append(_show(below[column], warped[column]))
    title = figure.suptitle("", fontsize=10)

    def draw(frame: int) -> None:
        params = snapshots.params[frame, 0]
        grids, warped = grids_and_warped(spec, images, params, size)
        for drawn, grid in zip(lines, grids, strict=True):
            for line, points in zip(drawn, outline(grid, shape), strict=True):
                line.set_data(*points.T)
        for picture, image in zip(pictures, warped, strict=True):
            picture.set_data(_shown(image))
        title.set_text(f"step {snapshots.steps[frame]:,}")

    count = len(snapshots.steps)
    # most frames show the first steps, in which the transformer changes most
    frames = np.unique(np.geomspace(1, count, min(count, FRAMES)).astype(int) - 1)
    pause = [int(frames[-1])] * (len(frames) // 5)  # the last frame, repeated
    FuncAnimation(figure, draw, frames=[*frames.tolist(), *pause]).save(
        path, writer=PillowWriter(fps=max(round(len(frames) / seconds), 1)), dpi=80
    )


def grids_and_warped(
    spec: ModelSpec, images: np.ndarray, params: np.ndarray, size: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """The sampling grids ``(n, h, w, 2)`` for parameters ``(n, P)``, and the warped
    images ``(n, *size, C)``.

    Of a volume's grid, it is the middle slice, projected along the depth.
    """
    family = transform_of(spec, images.ndim - 2)
    grids = np.asarray(family.grid(params, tuple(size)))
    if len(size) == 3:
        grids = grids[:, size[0] // 2, :, :, :2]
    return grids, np.asarray(warp(images, family, params, tuple(size)))


def _draw(axes: Axes, grid: np.ndarray, size: tuple[int, ...]) -> tuple[Line2D, Line2D]:
    """Draw the outline of a sampling grid, with room for points outside the image."""
    lines = draw_outline(grid, size, axes=axes)
    height, width = size
    axes.set_xlim(-0.2 * width, 1.2 * width)
    axes.set_ylim(1.2 * height, -0.2 * height)
    axes.set_facecolor(BACKGROUND)
    return lines


def _show(axes: Axes, image: np.ndarray) -> AxesImage:
    return draw_image(_shown(image), axes=axes)


def _shown(image: np.ndarray) -> np.ndarray:
    """The pixels to show of an image: its colors, two colors for two channels, or gray.

    Other channels and the depth of volumes are averaged.
    """
    pixels = np.asarray(image, np.float32).clip(0, 1)
    if pixels.ndim == 4:
        pixels = pixels.mean(axis=0)
        pixels = pixels / max(pixels.max(), 1e-6)
    if pixels.shape[-1] == 2:  # the two digits of addition
        first, second = pixels[..., 0], pixels[..., 1]
        return np.stack([np.maximum(first, 0.3 * second), second, second], axis=-1)
    if pixels.shape[-1] == 3:
        return pixels
    return pixels.mean(axis=-1, keepdims=True)


def _predictions(row: Sequence[Axes], models: Sequence[tuple[str, Snapshots]]) -> None:
    """Write each model's name and predictions below the images, wrong ones in red."""
    for index, axes in enumerate(row):
        lines: list[Artist] = [
            TextArea(
                f"{name}{_short(label_text(predicted, of.classes))}",
                textprops={"color": "#d00000" if wrong else "black"},
            )
            for name, of in models
            for predicted in [of.predictions[index]]
            for wrong in [(predicted != of.labels[index]).any()]
        ]
        if lines:
            below = {"bbox_to_anchor": (0.5, 0), "bbox_transform": axes.transAxes}
            packed = VPacker(children=lines, align="center", pad=0, sep=2)
            axes.add_artist(
                AnchoredOffsetbox("upper center", child=packed, frameon=False, **below)
            )


def curves(trained: Sequence[Trained]) -> Figure:
    """Plot the training loss and the held-out error of all models against the steps.

    The held-out error is that of the validation part; a circle marks the chosen state.
    Without a validation part it is the test error.
    """
    figure = Figure((10, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for index, run in enumerate(trained):
        color, name = f"C{index}", run.spec.label
        left.plot(*_against_steps(run.rows, "loss"), color, label=name, linewidth=1)
        key = "validation_error" if run.best else "test_error"
        evaluated = [row for row in run.rows if key in row]
        name = f"{name}: test error {run.test_error:.2f}%"
        right.plot(*_against_steps(evaluated, key), ".-", color=color, label=name)
        if run.best:
            at, error, _ = run.chosen
            right.plot(at, error, "o", mfc="none", mec=color, ms=10)
    left.set(xlabel="step", ylabel="training loss")
    held_out = "validation" if any(run.best for run in trained) else "test"
    right.set(xlabel="step", ylabel=f"{held_out} error, %")
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

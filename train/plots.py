"""Figures: what the transformers look at, and how training went."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.offsetbox import AnchoredOffsetbox, TextArea, VPacker
from matplotlib.ticker import LogLocator, NullFormatter

from stn_jax import to_pixels, warp

from .configs import Model
from .loop import Looks, Row, Trained
from .models import transform_of

_KINDS = {
    "fcn": "FCN",
    "cnn": "CNN",
    "st_fcn": "ST-FCN",
    "st_cnn": "ST-CNN",
    "2xst_fcn": "2xST-FCN",
    "multi_st_cnn": "3xST-CNN",
}
_FAMILIES = {"affine": "affine", "projective": "projective", "tps": "TPS"}
FRAMES = 50
YELLOW, RED, BACKGROUND = "#ffd500", "#ff3030", "#303048"


def label(model: Model) -> str:
    """What a model is called in tables and figures."""
    kind, _, family = model.partition("-")
    return " ".join([_KINDS[kind], *([_FAMILIES[family]] if family else [])])


def look(looks: dict[Model, Looks]) -> Figure:
    """What the models saw of some test images, and what they took them for.

    The images as they came, with their true labels; then two rows for each transformer:
    the outline of its sampling grid on the image, with its upper edge in red, and what
    it read there, with the predicted label. Wrong predictions are red. Volumes are
    shown averaged along their depth.
    """
    first = next(iter(looks.values()))
    rows = 1 + 2 * sum(of.params.shape[1] for of in looks.values())
    count = len(first.labels)
    figure = Figure((1.05 * count + 1, 1.25 * rows + 0.3), layout="constrained")
    grid = figure.subplots(rows, count, squeeze=False)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    grid[0, 0].set_ylabel("input")
    for axes, image, truth in zip(grid[0], first.images, first.labels, strict=True):
        _show(axes, image)
        axes.set_title(f"{truth}", fontsize=12)
    below_input, at = [], 1
    for model, of in looks.items():
        if of.params.shape[1] == 0:
            below_input.append((model, of))
            continue
        for params in of.params[-1]:
            grid[at, 0].set_ylabel(f"{label(model)}\nlooks here")
            grid[at + 1, 0].set_ylabel("and sees")
            outlines, seen = read(model, of, params)
            for axes, image, outline in zip(grid[at], of.images, outlines, strict=True):
                _show(axes, image)
                _draw(axes, outline, image.shape)
            for axes, image in zip(grid[at + 1], seen, strict=True):
                _show(axes, image)
            at += 2
        _predictions(grid[at - 1], [(model, of)])
    _predictions(grid[0], below_input)
    return figure


def animate(model: Model, looks: Looks, path: Path, seconds: float = 10.0) -> None:
    """Where a transformer looked as training went on, as a GIF.

    Above the images with the outline of the sampling grid, below what was read there.
    """
    columns = len(looks.labels)
    figure = Figure((0.8 * columns, 2.0), layout="constrained")
    above, below = figure.subplots(2, columns)
    for axes in (*above, *below):
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    outlines, seen = read(model, looks, looks.params[0, 0])
    lines, pictures = [], []
    for column, image in enumerate(looks.images):
        _show(above[column], image)
        lines.append(_draw(above[column], outlines[column], image.shape))
        pictures.append(_show(below[column], seen[column]))
    title = figure.suptitle("", fontsize=10)

    def draw(frame: int) -> None:
        outlines, seen = read(model, looks, looks.params[frame, 0])
        for (upper, rest), outline in zip(lines, outlines, strict=True):
            upper.set_data(*outline[0].T)
            rest.set_data(*outline[1].T)
        for picture, image in zip(pictures, seen, strict=True):
            picture.set_data(_gray(image))
        title.set_text(f"step {looks.steps[frame]:,}")

    count = len(looks.steps)
    # the beginning in full, as there it happens; then fewer and fewer
    frames = np.unique(np.geomspace(1, count, min(count, FRAMES)).astype(int) - 1)
    pause = [int(frames[-1])] * (len(frames) // 5)  # on the last
    FuncAnimation(figure, draw, frames=[*frames.tolist(), *pause]).save(
        path, writer=PillowWriter(fps=max(round(len(frames) / seconds), 1)), dpi=80
    )


def read(
    model: Model, looks: Looks, params: np.ndarray
) -> tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray]:
    """What parameters ``(n, P)`` mean for the images: each grid's upper edge and the
    rest of its outline, in pixels; and what is read there, ``(n, *size, C)``.

    Of volumes: the outline of the grid's middle slice, seen along the depth.
    """
    size, shape = looks.size, looks.images.shape[1:-1]
    family = transform_of(model, len(shape))
    grid = np.asarray(to_pixels(family.grid(params, size), shape))
    if len(size) == 3:
        grid = grid[:, size[0] // 2, :, :, :2]
    right, lower, left = grid[:, :, -1], grid[:, -1, ::-1], grid[:, ::-1, 0]
    rest = np.concatenate([right, lower, left], axis=1)
    seen = np.asarray(warp(looks.images, family, params, size))
    return list(zip(grid[:, 0], rest, strict=True)), seen


def _draw(
    axes: Axes, outline: tuple[np.ndarray, np.ndarray], shape: Sequence[int]
) -> tuple[Line2D, Line2D]:
    upper, rest = outline
    (around,) = axes.plot(*rest.T, color=YELLOW, linewidth=1.4)
    (edge,) = axes.plot(*upper.T, color=RED, linewidth=2)
    height, width = shape[-3:-1]
    axes.set_xlim(-0.2 * width, 1.2 * width)  # room for what reaches beyond the image
    axes.set_ylim(1.2 * height, -0.2 * height)
    axes.set_facecolor(BACKGROUND)
    return edge, around


def _show(axes: Axes, image: np.ndarray):
    return axes.imshow(_gray(image), cmap="gray", vmin=0, vmax=1)


def _gray(image: np.ndarray) -> np.ndarray:
    """An image's pixels: colors as they are, other channels one above the other, and
    volumes along their depth.
    """
    pixels = np.asarray(image, np.float32).clip(0, 1)
    if pixels.ndim == 4:
        pixels = pixels.mean(axis=0)
        pixels = pixels / max(pixels.max(), 1e-6)
    if pixels.shape[-1] == 2:  # of addition: in two colors
        first, second = pixels[..., 0], pixels[..., 1]
        return np.stack([np.maximum(first, 0.3 * second), second, second], axis=-1)
    return pixels if pixels.shape[-1] == 3 else pixels.mean(axis=-1)


def _predictions(row: Sequence[Axes], models: Sequence[tuple[Model, Looks]]) -> None:
    """Below the images what each model took them for, in red where it was wrong."""
    for index, axes in enumerate(row):
        lines: list[Artist] = [
            TextArea(
                f"{label(model).split()[0]}: {of.predictions[index]}",
                textprops={"color": "#d00000" if wrong else "black"},
            )
            for model, of in models
            for wrong in [of.predictions[index] != of.labels[index]]
        ]
        if lines:
            below = {"bbox_to_anchor": (0.5, 0), "bbox_transform": axes.transAxes}
            packed = VPacker(children=lines, align="center", pad=0, sep=2)
            axes.add_artist(
                AnchoredOffsetbox("upper center", child=packed, frameon=False, **below)
            )


def curves(trained: Sequence[Trained]) -> Figure:
    """Training loss and test error against steps, for all models."""
    figure = Figure((10, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for index, run in enumerate(trained):
        color, name = f"C{index}", label(run.name)
        tested = [row for row in run.rows if "test_error" in row]
        left.plot(*_against_steps(run.rows, "loss"), color, label=name, linewidth=1)
        name = f"{name}, {run.test_error:.2f}% at the end"
        right.plot(*_against_steps(tested, "test_error"), ".-", color=color, label=name)
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

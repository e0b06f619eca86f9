"""The experiment of co-localization (appendix A.2), digit by digit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from rich.console import Console
from rich.table import Table

from stn_jax import warp
from stn_jax.transforms import Attention

from . import results
from .classifiers import LeanCNN
from .configs import Colocalization, Config
from .data import Dataset, load
from .experiment import CHECKPOINTS, check_free, claim, progress, shown
from .loop import fit
from .plots import RED, YELLOW
from .results import METRICS, RESULTS
from .tasks import as_floats
from .triplets import CANVAS, PATCH, Encoder, Located, Scenes, locate

FIGURE = "figure.png"
PAPER = {0: (100,) * 10, 16: (81, 82, 88, 75, 94, 84, 93, 85, 89, 87)}  # table 5


def run(name: str, config: Colocalization, console: Console) -> Path:
    """Train the encoders, then transformers for each class; returns the folder.

    It then holds ``results.json``, ``metrics.jsonl`` and ``figure.png``.

    Raises:
      DataError: the data cannot be had; the folder is not touched then.
      OutputError: the folder holds results already, or cannot be written.
    """
    out = config.out or Path("runs") / name
    names = [METRICS, RESULTS, FIGURE]
    check_free(out, config, names)
    data = load(config.dataset, config.data_dir)
    folder = claim(out, config, names)
    states = {
        (pieces, digit): f"{CHECKPOINTS}/{pieces}-{digit}.npz"
        for pieces in config.clutter
        for digit in config.digits
    }
    encoders: list[Encoder] = []
    located = []
    with folder.open(METRICS) as metrics:
        for (pieces, digit), state in states.items():
            if folder.holds(state):
                found = _read(folder.path / state)
            else:
                encoders = encoders or [
                    _encoder(config, data, console, start)
                    for start in range(config.starts)
                ]
                found = locate(config, data, encoders, digit, pieces)
                results.write_arrays(folder, state, _arrays(found))
            located.append(found)
            metrics.write(json.dumps(_row(found)) + "\n")
            console.print(
                f"digit {digit}, {pieces:2} pieces of clutter: "
                f"{found.correct:.0f}% found, "
                f"mean overlap {found.overlap.mean():.2f}"
            )
    document = results.provenance(name, config, data)
    document["models"] = [_row(found) for found in located]
    results.write_json(folder, RESULTS, document)
    results.write_figure(folder, FIGURE, figure(located))
    console.print(_table(located))
    console.print(f"before and after: {out / FIGURE}", soft_wrap=True)
    for state in states.values():
        folder.remove(state)
    return out


def _arrays(found: Located) -> dict[str, Any]:
    """What a resumed run need not compute again; of the images only the first."""
    return found._asdict() | {
        "scenes": found.scenes.images[:1],
        "corners": found.scenes.corners[:1],
    }


def _read(path: Path) -> Located:
    """The ``Located`` whose ``_arrays`` an .npz archive holds."""
    with np.load(path, allow_pickle=False) as saved:
        arrays = dict(saved)
    scenes = Scenes(arrays.pop("scenes"), arrays.pop("corners"))
    numbers = {
        name: arrays.pop(name).item() for name in ("digit", "pieces", "loss", "doubt")
    }
    return Located(scenes=scenes, **numbers, **arrays)


def _encoder(
    config: Colocalization, data: Dataset, console: Console, start: int
) -> Encoder:
    """A classifier of digits as in patches; its layers are the encoding."""
    setup = Config(
        ("cnn",),
        "patch",
        parameters=config.encoder_parameters,
        steps=config.encoder_steps,
        eval_every=config.encoder_steps,
        seed=config.seed + start,
    )
    with progress(console) as bar:
        show = shown(bar, f"encoder {start}", setup.steps)
        (trained,) = fit(setup, "cnn", data, show)
    assert isinstance(trained.model, LeanCNN)
    return Encoder(trained.model, as_floats(data.train_images[:1000]))


def _row(found: Located) -> dict[str, Any]:
    return {
        "digit": found.digit,
        "clutter": found.pieces,
        "correct": found.correct,
        "overlap": round(float(found.overlap.mean()), 4),
        "paper": PAPER.get(found.pieces, (None,) * 10)[found.digit],
        "loss": round(found.loss, 4),
        "doubt": round(found.doubt, 4),
    }


def figure(located: list[Located], count: int = 10) -> Figure:
    """The first image of each class before and after: the square that is looked at in
    yellow, the digit's own in red, and what is seen.
    """
    shown = located[: 2 * count]
    rows = -(-len(shown) // count) * 2
    columns = min(count, len(shown))
    out = Figure((1.1 * columns + 0.8, 1.2 * rows + 0.3), layout="constrained")
    grid = out.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for index, found in enumerate(shown):
        row, column = divmod(index, columns)
        above, below = grid[2 * row, column], grid[2 * row + 1, column]
        image = np.asarray(found.scenes.images[0])
        above.imshow(image, cmap="gray", vmin=0, vmax=1)
        _square(above, np.asarray(found.scenes.corners[0]), PATCH, RED)
        s, *center = found.params[0]
        side = abs(s) * CANVAS
        _square(above, (np.array(center) + 1) * CANVAS / 2 - side / 2, side, YELLOW)
        patch = warp(image, Attention(), found.params[0], (PATCH, PATCH))
        below.imshow(np.asarray(patch), cmap="gray", vmin=0, vmax=1)
        below.set_xlabel(f"{found.correct:.0f}%")
        if column == 0:
            above.set_ylabel(f"{found.pieces} pieces\nlooks here")
            below.set_ylabel("and sees")
    return out


def _square(axes: Axes, corner: np.ndarray, side: float, color: str) -> None:
    square = Rectangle(
        tuple(corner - 0.5), side, side, fill=False, color=color, linewidth=1.5
    )
    axes.add_patch(square)


def _table(located: list[Located]) -> Table:
    table = Table("clutter", title="found, in %, beside the paper's")
    for digit in sorted({found.digit for found in located}):
        table.add_column(str(digit), justify="right")
    for pieces in dict.fromkeys(found.pieces for found in located):
        row = [_row(found) for found in located if found.pieces == pieces]
        row.sort(key=lambda row: row["digit"])
        table.add_row(str(pieces), *(f"{row['correct']:.0f}" for row in row))
        table.add_row("paper", *(str(row["paper"]) for row in row))
    return table

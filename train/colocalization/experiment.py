"""The co-localization of all classes, one after the other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from .. import artifacts, display
from ..artifacts import METRICS, RESULTS
from ..classifiers import LeanCNN
from ..configs import Colocalization, Config
from ..data import Dataset, load_source
from ..folder import Folder
from ..loop import fit
from ..run import CHECKPOINTS, FIGURE, check_folder, claim
from ..specs import ModelSpec
from ..tasks import as_floats
from ..validation import with_validation
from .figures import located_figure, located_row, located_table
from .locating import Located, locate
from .networks import Encoder
from .scenes import Scenes


def run_colocalization(name: str, config: Colocalization, console: Console) -> Path:
    """Train the encoders, then transformers for each class; return the folder.

    It then holds ``results.json``, ``metrics.jsonl`` and ``figure.png``.

    Raises:
      DataError: the data is missing or corrupt. The folder is not changed.
      OutputError: the folder is not the program's, holds results, or cannot be written.
    """
    out = config.out or Path("runs") / name
    names = [METRICS, RESULTS, FIGURE]
    check_folder(out, config, names)
    data = with_validation(load_source(config), 0)
    with claim(out, config, names, data) as folder:
        _locate_all(name, config, data, folder, console)
    return out


def _locate_all(
    name: str,
    config: Colocalization,
    data: Dataset,
    folder: Folder,
    console: Console,
) -> None:
    """Locate the digits of all classes, and write the results."""
    states = {
        (distractors, digit): f"{CHECKPOINTS}/{distractors}-{digit}.npz"
        for distractors in config.clutter
        for digit in config.digits
    }
    encoders: list[Encoder] = []
    located = []
    with folder.lines(METRICS) as write_line:
        for (distractors, digit), state in states.items():
            if folder.holds(state):
                found = _read_located(folder.path / state)
            else:
                encoders = encoders or [
                    _train_encoder(config, data, console, start)
                    for start in range(config.starts)
                ]
                found = locate(config, data, encoders, digit, distractors)
                artifacts.write_arrays(folder, state, _arrays_of(found))
            located.append(found)
            write_line(json.dumps(located_row(found)))
            console.print(
                f"digit {digit}, {distractors:2} distractors: "
                f"{found.correct:.0f}% found, "
                f"mean overlap {found.overlap.mean():.2f}"
            )
    document = artifacts.provenance(name, config, data)
    document["models"] = [located_row(found) for found in located]
    artifacts.write_json(folder, RESULTS, document)
    console.print(located_table(located))
    path = artifacts.write_figure(folder, FIGURE, located_figure(located))
    console.print(f"located digits: {path}", soft_wrap=True)
    for state in states.values():
        folder.remove(state)


def _arrays_of(found: Located) -> dict[str, Any]:
    """What a resumed run needs; of the images only the first, for the figure."""
    return found._asdict() | {
        "scenes": found.scenes.images[:1],
        "corners": found.scenes.corners[:1],
    }


def _read_located(path: Path) -> Located:
    with np.load(path, allow_pickle=False) as saved:
        arrays = dict(saved)
    scenes = Scenes(arrays.pop("scenes"), arrays.pop("corners"))
    scalars = ("digit", "distractors", "loss", "entropy")
    numbers = {name: arrays.pop(name).item() for name in scalars}
    return Located(scenes=scenes, **numbers, **arrays)


def _train_encoder(
    config: Colocalization, data: Dataset, console: Console, start: int
) -> Encoder:
    """Train a classifier of digits in patches; its layers are the encoding."""
    cnn = ModelSpec("cnn")
    setup = Config(
        (cnn,),
        "patch",
        parameters=config.encoder_parameters,
        steps=config.encoder_steps,
        validation=0,
        eval_every=config.encoder_steps,
        seed=config.seed + start,
    )
    with display.progress(console, f"encoder {start}", setup.steps) as show:
        (trained,) = fit(setup, cnn, data, show)
    assert isinstance(trained.model, LeanCNN)
    return Encoder(trained.model, as_floats(data.train.images[:1000]))

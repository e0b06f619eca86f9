"""A run: train the models of a configuration and write the results and figures."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console

from . import display, plots, processes
from .configs import Colocalization, Config, differences, settings_of
from .data import Dataset, load_source, sha256_of, with_validation
from .devices import mesh_for
from .errors import OutputError
from .initial import initial_model
from .loop import fit
from .specs import ModelSpec
from .storage import artifacts
from .storage.artifacts import METRICS, RESULTS
from .storage.checkpoints import Checkpoint
from .storage.circumstances import device, sampler
from .storage.folder import Folder
from .tensorboard import write_events
from .trained import Row, Trained
from .trainer import SHOWN

FIGURE, CURVES, CHECKPOINTS = "figure.png", "curves.png", "checkpoints"
MODELS, EXAMPLES = "models", "examples"
PROFILE, EVENTS = "profile", "tensorboard"


def run_experiment(name: str, config: Config, console: Console) -> Path:
    """Train the models of a configuration; return the folder of the results.

    The folder then holds ``metrics.jsonl``, ``results.json``, the weights of each model
    in ``models``, some held-out images in ``examples``, ``figure.png`` and
    ``curves.png``; with ``config.animate`` also a GIF of each model with transformers.

    Raises:
      DataError: the data is missing or corrupt. The folder is not changed.
      OutputError: the folder is not the program's, holds results, or cannot be written.
      Diverged: a loss or a weight is no longer finite.
      Stopped: a signal has arrived, and the state was saved.
    """
    out = config.out or Path("runs") / name
    names = _file_names(config)
    with processes.preparing():
        mesh_for(config)
        if processes.is_first():
            check_folder(out, config, names)
            for spec in config.models:
                _checkpoint(Folder(out, "run"), spec).check()
        data = with_validation(load_source(config), config.validation)
        for spec in config.models:  # one that cannot be built fails before the training
            initial_model(config, spec, data)
    processes.agree(_identity(config, data) | {"sampler": sampler()})
    words = f"{name}: {describe(data)}, on {device(config.devices)}"
    console.print(words, soft_wrap=True)
    folder = None
    with ExitStack() as stack:
        with processes.preparing():
            if processes.is_first():
                folder = stack.enter_context(claim(out, config, names, data))
        if folder:
            _train_and_write(name, config, data, folder, console)
        else:
            for spec in config.models:
                fit(config, spec, data)
    return out


def _file_names(config: Config) -> list[str]:
    """The names of the files that a run writes, but for those in its states."""
    names = [METRICS, RESULTS, FIGURE, CURVES]
    names += [f"{EXAMPLES}/{index}.png" for index in range(SHOWN)]
    for spec in config.models:
        ranks = ("best", *(f"best-{n}" for n in range(2, config.keep + 1)), "last")
        files = [f"{MODELS}/{spec.name}/{rank}.safetensors" for rank in ranks]
        names += [*files, *(f"{file}.json" for file in files)]
        names += [f"{spec.name}.gif"] if config.animate else []
    return names


def describe(data: Dataset) -> str:
    """The numbers of images in words."""
    counts = [f"{len(data.train.labels):,} training"]
    counts += [f"{len(data.validation.labels):,} validation"] if data.validation else []
    counts += [f"{len(data.test.labels):,} test images of {data.name}"]
    return f"{', '.join(counts[:-1])} and {counts[-1]}"


def _train_and_write(
    name: str, config: Config, data: Dataset, folder: Folder, console: Console
) -> None:
    origin = artifacts.provenance(name, config, data)
    trained = []
    with folder.lines(METRICS) as write_line:
        for spec in config.models:
            run = _train(config, spec, data, folder, console, write_line)
            models = f"{MODELS}/{spec.name}"
            artifacts.write_models(folder, models, origin, data, run)
            trained.append(run)
    results = [artifacts.result_of(run) for run in trained]
    artifacts.write_json(folder, RESULTS, origin | {"models": results})
    console.print(display.summary(trained))
    for remark in (text for run in trained for text in display.remarks(run)):
        console.print(remark, soft_wrap=True)
    _draw_figures(folder, trained, console, config.animate)
    has_examples = _write_examples(folder, trained[-1].snapshots.images)
    # as long as there are states, the run counts as stopped and can be resumed
    for spec in config.models:
        _checkpoint(folder, spec).remove()
    model = folder.path / MODELS / trained[-1].spec.name
    images = folder.path / EXAMPLES if has_examples else "IMAGE ..."
    console.print(
        f"use this model: {_python()} -m train predict {model} {images}", soft_wrap=True
    )


def _checkpoint(folder: Folder, spec: ModelSpec) -> Checkpoint:
    return Checkpoint(folder, f"{CHECKPOINTS}/{spec.name}")


def _python() -> str:
    """How to call this Python: by its path if it lies in the current folder."""
    path, here = Path(sys.executable), Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else "python"


def _write_examples(folder: Folder, images: np.ndarray) -> bool:
    """Write held-out images ``(n, *size, C)`` as PNG files, if they are pictures."""
    is_picture = images.ndim == 4 and images.shape[-1] in (1, 3)
    if not is_picture or images.min() < 0 or images.max() > 1:
        return False
    pixels = np.rint(255 * images).astype(np.uint8)
    pixels = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    for index, image in enumerate(pixels):
        folder.write(f"{EXAMPLES}/{index}.png", Image.fromarray(image).save)
    return True


def _draw_figures(
    folder: Folder, trained: Sequence[Trained], console: Console, animate: bool
) -> None:
    snapshots = {run.spec: run.snapshots for run in trained}
    figure = plots.transformer_figure(snapshots)
    path = artifacts.write_figure(folder, FIGURE, figure)
    console.print(f"transformers on held-out images: {path}", soft_wrap=True)
    path = artifacts.write_figure(folder, CURVES, plots.curves(trained))
    console.print(f"loss and errors: {path}", soft_wrap=True)
    for spec, of in snapshots.items():
        if animate and of.params.shape[1]:
            draw = partial(plots.animate, spec, of)
            path = folder.write(f"{spec.name}.gif", draw)
            console.print(f"animation: {path}", soft_wrap=True)


def check_folder(
    out: Path,
    config: Config | Colocalization,
    names: Sequence[str],
    data: Dataset | None = None,
) -> None:
    """Raise OutputError unless the run may write files of these names to ``out``.

    A run that is resumed must have the same settings and, where they are given, data.
    """
    folder = Folder(out, "run")
    marker = folder.marker()
    folder.check(names)
    if marker is None or config.overwrite:
        return
    has_states = any(name.startswith(f"{CHECKPOINTS}/") for name in marker.files)
    if folder.holds(RESULTS) and not has_states:
        raise OutputError(
            f"{out} holds the results of an earlier run. Keep them and name another "
            "folder with --out, or replace them with --overwrite"
        )
    if not config.resume:
        raise OutputError(
            f"{out} holds a run that was stopped. Continue it with --resume, name "
            "another folder with --out, or start again with --overwrite"
        )
    if differ := differences(marker.settings, _identity(config, data)):
        raise OutputError(
            f"{out} holds a run with other settings, so it cannot be resumed: {differ}"
        )


def _identity(config: Config | Colocalization, data: Dataset | None) -> dict[str, Any]:
    """The settings that determine the results, and the digest of the data."""
    digest = {"data_sha256": sha256_of(data)} if data else {}
    return settings_of(config) | digest


@contextmanager
def claim(
    out: Path, config: Config | Colocalization, names: Sequence[str], data: Dataset
) -> Iterator[Folder]:
    """A context in which ``out`` is this run's folder, and no other process may write.

    Earlier results are removed, unless they are resumed.
    """
    folder = Folder(out, "run")
    with folder.locked():
        check_folder(out, config, names, data)
        if folder.marker() is None or not config.resume:
            folder.begin(_identity(config, data))
        yield folder


def _train(
    config: Config,
    spec: ModelSpec,
    data: Dataset,
    folder: Folder,
    console: Console,
    write_line: Callable[[str], None],
) -> Trained:
    """Train one model, show its progress, and write its metrics."""
    events = write_events(folder, f"{EVENTS}/{spec.name}", config.tensorboard)
    profile = TemporaryDirectory() if config.profile else nullcontext(None)
    with (
        display.progress(console, spec.label, config.steps) as show,
        events as write_event,
        profile as trace,
    ):

        def on_row(row: Row) -> None:
            write_line(artifacts.json_line(row))
            write_event(row)
            show(row)

        (trained,) = fit(
            config,
            spec,
            data,
            on_row,
            checkpoint=_checkpoint(folder, spec),
            trace=Path(trace) if trace else None,
        )
        if trace:
            folder.copy(Path(trace), f"{PROFILE}/{spec.name}")
    return trained

"""Metrics for TensorBoard, by the package tensorboardX."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import ConfigError
from .storage.folder import Folder
from .trained import Row

NOT_METRICS = ("model", "seed", "step")


@contextmanager
def write_events(
    folder: Folder, name: str, is_wanted: bool
) -> Iterator[Callable[[Row], None]]:
    """A context for a training; yields the function that writes a row's metrics.

    Args:
      folder: the output folder.
      name: the folder in it for TensorBoard's files.
      is_wanted: whether anything is written.

    Raises:
      ConfigError: tensorboardX is not installed.
    """
    if not is_wanted:
        yield lambda row: None
        return
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise ConfigError("--tensorboard needs: pip install tensorboardX") from None
    with SummaryWriter(str(folder.path / name)) as writer:
        for path in Path(writer.logdir).glob("events.*"):
            folder.adopt(f"{name}/{path.name}")

        def write(row: Row) -> None:
            for key in row.keys() - {*NOT_METRICS}:
                writer.add_scalar(key, row[key], row["step"])
            writer.flush()

        yield write

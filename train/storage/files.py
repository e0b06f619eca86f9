"""Files that are written completely or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import ConfigError, OutputError

Save = Callable[[Path], Any]


def check_new(path: Path | None, overwrite: bool) -> None:
    """Raise OutputError if a file that an option names cannot be written.

    Args:
      path: the file; None if the option was not given.
      overwrite: whether an existing file may be replaced.
    """
    if path is None:
        return
    if path.is_dir():
        raise OutputError(f"{path} is a folder; name a file in it")
    if not path.parent.is_dir():
        raise OutputError(f"{path}: there is no folder {path.parent}; make it first")
    if not overwrite and (path.exists() or path.is_symlink()):
        raise OutputError(
            f"{path} exists. Name another file, or replace it with --overwrite"
        )


def check_suffix(option: str, path: Path | None, *suffixes: str) -> None:
    """Raise ConfigError if an option names a file of a format that is not written."""
    if path is not None and path.suffix.lower() not in suffixes:
        raise ConfigError(f"{option} must end in {' or '.join(suffixes)}; got {path}")


def write_file(path: Path, save: Save) -> Path:
    """Write a file that an option names: ``save`` fills a temporary file.

    Raises:
      OutputError: the file cannot be written.
    """
    try:
        replace_file(path, save)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    return path


def replace_file(path: Path, save: Save) -> None:
    """Let ``save`` fill a temporary file, and put it in the place of ``path``."""
    unfinished = path.with_name(f".{uuid.uuid4().hex}{path.suffix}")
    try:
        save(unfinished)
        flush(unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Have the system write a file to the disk, so that it outlives a power failure."""
    with path.open("rb") as file:
        os.fsync(file.fileno())

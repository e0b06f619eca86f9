"""Files that no other user can have written.

Loading a library runs its code. So a file of the user's cache is used only if the file
and its folder belong to the effective user or root, and if neither group nor others can
write to them. Symbolic links are not followed. The folders above are not checked.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path


def read(path: Path) -> bytes:
    """Read a file that no other user can have written.

    Raises:
      RuntimeError: another user can have written it, it cannot be read, or this system
        does not report who owns a file.
    """
    _check_system()
    try:
        _check_folder(path.parent)
        with open(path, "rb", opener=_open) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise RuntimeError(f"{path} is not a regular file")
            _check_owner(path, status)
            return file.read()
    except OSError as error:
        raise RuntimeError(
            f"{path} cannot be read as a regular file: {error.strerror}"
        ) from error


def make_folder(folder: Path) -> None:
    """Make a folder in which no other user can write, or make it such a folder.

    Raises:
      RuntimeError: it belongs to another user, is not a folder, or this system does not
        report who owns a file.
      OSError: it cannot be made.
    """
    _check_system()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid():
        folder.chmod(stat.S_IMODE(status.st_mode) & ~0o022 | 0o700)
    _check_folder(folder)


def _open(path: str, flags: int) -> int:
    # O_NONBLOCK: to open a pipe would wait for a writer
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _check_system() -> None:
    if not hasattr(os, "geteuid"):
        raise RuntimeError("this system does not report who owns a file")


def _check_folder(folder: Path) -> None:
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise RuntimeError(f"{folder} is not a folder")
    _check_owner(folder, status)


def _check_owner(path: Path, status: os.stat_result) -> None:
    if status.st_uid not in (os.geteuid(), 0):
        raise RuntimeError(f"{path} belongs to another user")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise RuntimeError(f"other users can write to {path}")

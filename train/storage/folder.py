"""Output folders: this program replaces and removes only files that it wrote.

A marker file in the folder lists those files. A folder that has other files and no
marker belongs to someone else and is refused.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import filelock

from ..errors import OutputError
from .files import Save, flush, replace_file

MARKER = ".stn_jax_train.json"
LOCK = ".stn_jax_train.lock"
PROGRAM = "python -m train"
ADVICE = (
    "Name another folder with --out. If it holds results of an earlier version, which "
    "kept no list of its files, move or delete them yourself."
)

Kind = Literal["run", "table"]


@dataclass(frozen=True)
class Marker:
    """The content of a marker file."""

    kind: Kind
    settings: dict[str, Any]
    """The settings that determine the results."""
    files: tuple[str, ...] = ()
    """The files that this program wrote, relative to the folder."""


@dataclass(frozen=True)
class Folder:
    """A folder for the results of one run or one table."""

    path: Path
    kind: Kind
    advice: str = ADVICE
    """What the user can do if the folder is refused."""

    def marker(self) -> Marker | None:
        """The folder's marker; None if the folder does not exist or is empty.

        Raises:
          OutputError: the path is a file, the folder belongs to someone else or to the
            other kind of results, or its marker is corrupt.
        """
        with self._errors():
            if self.path.exists() and not self.path.is_dir():
                raise OutputError(f"{self.path} is a file, not a folder")
            if self.path.is_symlink() and not self.path.exists():
                raise OutputError(
                    f"{self.path} is a link to {os.readlink(self.path)}, where there "
                    "is no folder"
                )
            if not (self.path / MARKER).is_file():
                names = self.path.iterdir() if self.path.exists() else ()
                if any(path.name != LOCK for path in names):
                    raise OutputError(self._is_foreign())
                return None
            marker = self._parse((self.path / MARKER).read_text())
        if marker.kind != self.kind:
            raise OutputError(
                f"{self.path} holds results of python -m train {marker.kind}, not of "
                f"python -m train {self.kind}"
            )
        return marker

    @property
    def files(self) -> tuple[str, ...]:
        """The names of the files that this program wrote here."""
        marker = self.marker()
        return marker.files if marker else ()

    def holds(self, name: str) -> bool:
        """Whether this program wrote the file, and it is still there."""
        return name in self.files and (self.path / name).is_file()

    def check(self, names: Iterable[str]) -> None:
        """Raise OutputError if a file of someone else has one of these names."""
        own = self.files
        for path in (self.path / name for name in names if name not in own):
            if path.exists() or path.is_symlink():
                raise OutputError(
                    f"{path} was not written by this program, and is not replaced. "
                    "Move it, or name another folder"
                )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """A context in which no other process may write to the folder.

        The folder is made if it does not exist. The system releases the lock when the
        process ends, however that happens.

        Raises:
          OutputError: another process is writing to the folder, or it cannot be made.
        """
        self.marker()  # a folder of someone else gets no lock file
        with self._errors():
            self.path.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(self.path / LOCK, blocking=False)
            try:
                lock.acquire()
            except filelock.Timeout:
                raise OutputError(
                    f"another process is writing to {self.path}. Wait for its end, or "
                    "name another folder with --out"
                ) from None
        try:
            yield
        finally:
            lock.release()

    def begin(self, settings: dict[str, Any]) -> None:
        """Claim the folder for results of these settings; remove those it lists."""
        self.remove(*self.files)
        with self._errors():
            self.path.mkdir(parents=True, exist_ok=True)
        self._mark(Marker(self.kind, settings))

    def write(self, name: str, save: Save) -> Path:
        """Write a file completely or not at all: ``save`` fills a temporary file."""
        self._list(name)
        path = self.path / name
        with self._errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, save)
        return path

    def copy(self, source: Path, name: str) -> None:
        """Copy the files of another folder into the folder ``name`` in this one.

        The marker lists all of them before the first is copied.
        """
        paths = [path for path in source.rglob("*") if path.is_file()]
        names = [f"{name}/{path.relative_to(source).as_posix()}" for path in paths]
        self._list(*names)
        with self._errors():
            for path, own in zip(paths, names, strict=True):
                target = self.path / own
                target.parent.mkdir(parents=True, exist_ok=True)
                target.unlink(missing_ok=True)  # it may be a link
                shutil.copyfile(path, target)
                flush(target)

    @contextmanager
    def lines(self, name: str) -> Iterator[Callable[[str], None]]:
        """An empty text file; yields the function that appends a line to it."""
        self._list(name)
        path = self.path / name
        with self._errors():
            path.unlink(missing_ok=True)
            file = path.open("x", buffering=1)

        def write(line: str) -> None:
            with self._errors():
                file.write(line + "\n")

        try:
            yield write
        finally:
            with suppress(OSError):  # all lines were written, or an error is on its way
                file.close()

    def adopt(self, name: str) -> None:
        """List a file that a library has just written into the folder."""
        self._list(name, is_new=False)

    def remove(self, *names: str) -> None:
        """Remove files that this program wrote, and their folders if they are empty."""
        marker = self.marker()
        if marker is None or not set(names).intersection(marker.files):
            return
        with self._errors():
            for name in set(names).intersection(marker.files):
                self._unlink(self.path / name)
        left = tuple(name for name in marker.files if name not in names)
        self._mark(Marker(self.kind, marker.settings, left))

    def _unlink(self, path: Path) -> None:
        if path.is_file() or path.is_symlink():
            path.unlink()
        for parent in path.relative_to(self.path).parents[:-1]:
            folder = self.path / parent
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

    def _list(self, *names: str, is_new: bool = True) -> None:
        """Add files to the marker, before they are written if they are new."""
        if is_new:
            self.check(names)
        marker = self.marker()
        if marker is None:
            raise OutputError(f"{self.path} was removed while it was written to")
        if new := tuple(name for name in names if name not in marker.files):
            self._mark(Marker(self.kind, marker.settings, (*marker.files, *new)))

    def _mark(self, marker: Marker) -> None:
        text = json.dumps({"program": PROGRAM, **vars(marker)}, indent=1) + "\n"
        with self._errors():
            replace_file(self.path / MARKER, lambda path: path.write_text(text))

    def _parse(self, text: str) -> Marker:
        try:
            content = json.loads(text)
            if content.pop("program") != PROGRAM:
                raise ValueError
            marker = Marker(**content | {"files": tuple(content["files"])})
            if not all(map(self._is_within, marker.files)):
                raise ValueError
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise OutputError(
                f"{self.path / MARKER} is corrupt or not of this program. Nothing in "
                f"{self.path} was changed. {self.advice}"
            ) from error
        return marker

    def _is_within(self, name: str) -> bool:
        inner = PurePosixPath(name)
        if not inner.parts or inner.is_absolute() or ".." in inner.parts:
            return False
        folder = (self.path / name).parent.resolve()  # follows links
        return folder.is_relative_to(self.path.resolve())

    def _is_foreign(self) -> str:
        return (
            f"{self.path} is not empty, and this program did not make it: it has no "
            f"{MARKER}. Nothing in it was changed. {self.advice}"
        )

    @contextmanager
    def _errors(self):
        try:
            yield
        except OSError as error:
            raise OutputError(
                f"cannot write to {self.path}: {error.strerror or error}"
            ) from error

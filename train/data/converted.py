"""Images that are converted once, and then mapped from the disk.

A split is a folder of three files::

    images.bin     (N, S, S, 3), bytes
    labels.bin     (N, L), int32, little-endian
    header.json    N, the source, digests of both files, the images left out

A conversion writes to a folder ``SPLIT.unfinished``, and renames it at the end. The
header is a record of what is on the disk, renewed every CHUNK images; from it, a
conversion that was cut off is continued.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import numpy as np
from rich.console import Console
from rich.progress import Progress

from ..errors import DataError
from .arrays import Split

FORMAT = 1  # files of another format are made again
IMAGES, LABELS, HEADER = "images.bin", "labels.bin", "header.json"
CHUNK = 2000  # images between two records of a conversion
# what a missing, truncated or changed file raises
Invalid = (OSError, ValueError, KeyError, TypeError)


class Target(NamedTuple):
    """A split, and where it is converted to."""

    folder: Path
    """The folder of the source's images."""
    place: Path
    """The folder of the converted files."""
    side: int
    """Height and width of the images."""
    length: int
    """The length of the labels."""
    total: int
    """The number of images in the source."""
    source: dict[str, Any]
    """What identifies the source, as JSON. Another source is converted again."""


class Example(NamedTuple):
    """An image of the source."""

    name: str
    """The file in the source's folder."""
    content: tuple[np.ndarray, np.ndarray] | DataError
    """The image ``(S, S, 3)`` and the label ``(L,)``, or why there are none."""


Examples = Callable[[Target, int], Generator[Example, None, None]]
"""Returns the source's examples from an index on."""


@dataclass
class Header:
    """What is converted so far."""

    format: int
    side: int
    length: int
    source: dict[str, Any]
    read: int = 0
    """Images of the source that were read."""
    count: int = 0
    """Images that were written."""
    sha256: dict[str, str] = field(default_factory=dict)
    """Digests of the files."""
    left_out: list[dict[str, Any]] = field(default_factory=list)
    """The other images: their names, faults and digests."""

    @property
    def sizes(self) -> dict[str, int]:
        """The bytes of the files."""
        image, label = 3 * self.side**2, 4 * self.length
        return {IMAGES: self.count * image, LABELS: self.count * label}


def ensure_converted(target: Target, examples: Examples) -> Header:
    """Convert a split, unless that was done before, and check the converted files.

    Two processes may call this at once: one of them converts.

    Args:
      target: the split.
      examples: the source. What it raises ends the conversion.

    Raises:
      DataError: the files cannot be written.
    """
    with suppress(*Invalid):
        return _complete(target)  # no lock: the folder may be read-only
    with _reporting_writes(target), _locked(target.place.parent):
        try:
            return _complete(target)  # another process may have made it
        except FileNotFoundError:
            pass
        except Invalid as error:
            why = str(error) or type(error).__name__
            warnings.warn(f"{target.place} is made again: {why}", stacklevel=3)
        return _convert(target, examples)


def mapped(target: Target, header: Header) -> Split:
    """The converted images, mapped from the disk and read-only, and their labels."""
    shape = (header.count, target.side, target.side, 3)
    images = np.memmap(target.place / IMAGES, np.uint8, "r", shape=shape)
    labels = np.fromfile(target.place / LABELS, "<i4", header.count * target.length)
    return Split(images, labels.reshape(-1, target.length).astype(np.int32))


@contextmanager
def _reporting_writes(target: Target) -> Iterator[None]:
    """Report that the converted files cannot be written."""
    try:
        yield
    except (OSError, NotImplementedError) as error:  # the latter: no locks
        size = target.total * 3 * target.side**2 / 1e9
        why = getattr(error, "strerror", None) or error
        raise DataError(
            f"{target.place}, for the converted images, cannot be written ({why}). "
            f"Name another folder with --cache-dir; they need {size:.2g} GB."
        ) from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """A context in which no other process converts images to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        print(f"waiting for the process that writes to {folder}", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


# checks


def _complete(target: Target) -> Header:
    """Check the converted files of a split; raise one of Invalid."""
    header = _valid_header(target, target.place)
    if header.read != target.total:
        raise ValueError(f"it holds {header.read:,} of {target.total:,} images")
    return header


def _valid_header(target: Target, place: Path) -> Header:
    """Check what is converted of a split, also if its conversion was cut off."""
    header = Header(**json.loads((place / HEADER).read_text()))
    found = header.format, header.side, header.length, header.source
    if found != (FORMAT, target.side, target.length, target.source):
        raise ValueError("it was made of another source, or by another version")
    if header.count + len(header.left_out) != header.read:
        raise ValueError(f"{HEADER} contradicts itself")
    for name, size in header.sizes.items():
        if _digest_of_file(place / name, size).hexdigest() != header.sha256[name]:
            raise ValueError(f"{name} has changed")
    for entry in header.left_out:
        if _digest_of_image(target.folder / entry["image"]) != entry["sha256"]:
            raise ValueError(f"{entry['image']}, which was left out, has changed")
    return header


def _digest_of_file(path: Path, size: int) -> Any:
    """The SHA-256 of the first bytes of a file, which may be updated."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while size:
            content = file.read(min(size, 2**20))
            if not content:
                raise ValueError(f"{path.name} is truncated")
            digest.update(content)
            size -= len(content)
    return digest


def _digest_of_image(path: Path) -> str | None:
    """The SHA-256 of an image; None if it cannot be read."""
    with suppress(OSError):
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return None


# conversion


def _convert(target: Target, examples: Examples) -> Header:
    """Convert a split, or the rest of it if a conversion was cut off."""
    unfinished = target.place.with_name(f"{target.place.name}.unfinished")
    if target.place.exists():
        shutil.rmtree(target.place)
    try:
        header = _valid_header(target, unfinished)
    except Invalid:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        header = Header(FORMAT, target.side, target.length, target.source)
    with (
        closing(Output(unfinished, header)) as output,
        closing(examples(target, header.read)) as found,
        _progress(target, header.read) as show,
    ):
        for example in found:
            output.add(example, target.folder)
            show(header.read)
        output.save()
    unfinished.rename(target.place)
    return header


class Output:
    """The files of a conversion. What was written after the last record is dropped."""

    def __init__(self, folder: Path, header: Header) -> None:
        self.folder, self.header = folder, header
        self.files, self.digests = {}, {}
        for name, size in header.sizes.items():
            path = folder / name
            path.touch()
            self.digests[name] = _digest_of_file(path, size)
            self.files[name] = path.open("r+b")
            self.files[name].truncate(size)
            self.files[name].seek(size)

    def add(self, example: Example, folder: Path) -> None:
        """Write an example, or list its fault. ``folder`` is that of the images."""
        header, content = self.header, example.content
        if isinstance(content, DataError):
            digest = _digest_of_image(folder / example.name)
            entry = {"image": example.name, "fault": str(content), "sha256": digest}
            header.left_out.append(entry)
        else:
            image, label = content
            self._write(IMAGES, image.astype(np.uint8))
            self._write(LABELS, label.astype("<i4"))
            header.count += 1
        header.read += 1
        if header.read % CHUNK == 0:
            self.save()

    def _write(self, name: str, array: np.ndarray) -> None:
        content = array.tobytes()
        self.files[name].write(content)
        self.digests[name].update(content)

    def save(self) -> None:
        """Write the record, after all that it describes is on the disk."""
        for file in self.files.values():
            file.flush()
            os.fsync(file.fileno())
        self.header.sha256 = {k: v.hexdigest() for k, v in self.digests.items()}
        unfinished = self.folder / f".{HEADER}"
        with unfinished.open("w") as file:
            json.dump(asdict(self.header), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(self.folder / HEADER)

    def close(self) -> None:
        """Close the files."""
        for file in self.files.values():
            file.close()


# progress


@contextmanager
def _progress(target: Target, done: int) -> Iterator[Callable[[int], None]]:
    """A context for a conversion; yields the function that shows how far it is."""
    console, name = Console(stderr=True), f"converting {target.place.name}"
    if not console.is_terminal:
        yield _line_for_each_tenth(name, done, target.total)
        return
    with Progress(console=console) as bar:
        task = bar.add_task(name, total=target.total, completed=done)
        yield lambda read: bar.update(task, completed=read)


def _line_for_each_tenth(name: str, done: int, total: int) -> Callable[[int], None]:
    """Print a line for each tenth of the images."""
    shown = 10 * done // total

    def show(read: int) -> None:
        nonlocal shown
        if 10 * read // total > shown:
            shown = 10 * read // total
            text = f"{name}: {read:,} of {total:,} images"
            print(text, file=sys.stderr, flush=True)

    return show

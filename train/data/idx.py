"""MNIST's four files in IDX format, read from a folder and checked by digest."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from math import prod
from pathlib import Path

import numpy as np

from ..configs import DATA_LIMIT
from ..errors import DataError
from .arrays import check_size

# SHA-256 of the four files' contents, decompressed
MNIST_FILES = {
    "train-images-idx3-ubyte": (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
    ),
    "train-labels-idx1-ubyte": (
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"
    ),
    "t10k-images-idx3-ubyte": (
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
    ),
    "t10k-labels-idx1-ubyte": (
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
    ),
}

REMEDIES = (
    "What you can do: put the four original files of MNIST into a folder and name it "
    "with --data-dir, train on your own data with --dataset FILE.npz, or on the "
    "embedded digits with --dataset digits."
)

LARGEST_NDIM = 32  # NumPy's limit before version 2
CHUNK = 2**24  # bytes


def read_mnist(folder: Path, limit: float = DATA_LIMIT) -> dict[str, np.ndarray]:
    """Read MNIST's four arrays, by file name; the files may be gzipped.

    ``limit`` is the number of GB that a file may hold.
    """
    # the functions of os.path return False for names that are too long or forbidden
    if not os.path.isdir(folder):
        raise DataError(f"--data-dir {folder} is not a folder. {REMEDIES}")
    found = {
        name: path
        for name in MNIST_FILES
        for path in (folder / f"{name}.gz", folder / name)
        if os.path.isfile(path)
    }
    if missing := [name for name in MNIST_FILES if name not in found]:
        raise DataError(
            f"--data-dir {folder} lacks {', '.join(missing)} (each may end in .gz). "
            + REMEDIES
        )
    return {
        name: read_idx(found[name], digest, limit)
        for name, digest in MNIST_FILES.items()
    }


def read_idx(
    path: Path, sha256: str | None = None, limit: float = DATA_LIMIT
) -> np.ndarray:
    """Read an IDX file of bytes, gzipped or not.

    The file is decompressed up to one byte beyond the size in its header.

    Args:
      path: the file.
      sha256: the expected digest of its decompressed contents.
      limit: GB that it may hold.

    Raises:
      DataError: the file is missing, corrupt, or larger than the limit.
    """
    with _open_idx(path) as file:
        shape, content = _announced(path, file)
        expected = len(content) + prod(shape)
        check_size(str(path), expected, limit)
        # in pieces, because a corrupt header may announce more than the memory holds
        while chunk := file.read(min(expected + 1 - len(content), CHUNK)):
            content += chunk
    if (got := len(content)) != expected:
        what = "truncated" if got < expected else "too long"
        more = " or more" if got > expected else ""
        raise DataError(
            f"{path} is {what}: expected {expected} bytes by its header, got {got}"
            f"{more}. {REMEDIES}"
        )
    if sha256 is not None and (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise DataError(
            f"{path} is corrupted, or not MNIST's: expected the SHA-256 {sha256}, got "
            f"{found}. {REMEDIES}"
        )
    return np.frombuffer(content, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)


def _announced(path: Path, file: BufferedIOBase) -> tuple[tuple[int, ...], bytearray]:
    """The shape that a file announces, and the bytes of its header."""
    # two zeros, 8 for unsigned bytes, the number of axes; then the axes' lengths
    magic = file.read(4)
    ndim = magic[3] if magic[:3] == b"\0\0\x08" and len(magic) == 4 else 0
    lengths = file.read(4 * ndim)
    if not 0 < ndim <= LARGEST_NDIM or len(lengths) < 4 * ndim:
        raise DataError(f"{path} is not an IDX file of bytes. {REMEDIES}")
    shape = tuple(np.frombuffer(lengths, ">u4").tolist())
    return shape, bytearray(magic + lengths)


@contextmanager
def _open_idx(path: Path) -> Iterator[BufferedIOBase]:
    """Open a file, decompressing it if it is gzipped; report what goes wrong."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield file
            return
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        what = f"is truncated or corrupted ({error})"
    except OSError as error:
        what = f"cannot be read ({error.strerror})"
    raise DataError(f"{path} {what}. {REMEDIES}")

"""MNIST's four files in IDX format, read from a folder and checked by digest."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from math import prod
from pathlib import Path

import numpy as np

from .errors import DataError

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


def read_mnist(folder: Path) -> dict[str, np.ndarray]:
    """Read MNIST's four arrays, by file name; the files may be gzipped."""
    if not folder.is_dir():
        raise DataError(f"--data-dir {folder} is not a folder. {REMEDIES}")
    found = {
        name: path
        for name in MNIST_FILES
        for path in (folder / f"{name}.gz", folder / name)
        if path.is_file()
    }
    if missing := [name for name in MNIST_FILES if name not in found]:
        raise DataError(
            f"--data-dir {folder} lacks {', '.join(missing)} (each may end in .gz). "
            + REMEDIES
        )
    return {name: read_idx(found[name], MNIST_FILES[name]) for name in MNIST_FILES}


def read_idx(path: Path, sha256: str | None = None) -> np.ndarray:
    """Read an IDX file of bytes, gzipped or not.

    ``sha256`` is the expected digest of its decompressed contents.
    """
    content = _contents(path)
    # two zeros, 8 for unsigned bytes, the number of axes; then the axes' lengths
    ndim = content[3] if content[:3] == b"\0\0\x08" and len(content) > 3 else 0
    if ndim == 0 or len(content) < 4 + 4 * ndim:
        raise DataError(f"{path} is not an IDX file of bytes. {REMEDIES}")
    shape = tuple(np.frombuffer(content, ">u4", ndim, offset=4).tolist())
    expected, got = 4 + 4 * ndim + prod(shape), len(content)
    if got != expected:
        what = "truncated" if got < expected else "too long"
        raise DataError(
            f"{path} is {what}: expected {expected} bytes by its header, got {got}. "
            + REMEDIES
        )
    if sha256 is not None and (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise DataError(
            f"{path} is corrupted, or not MNIST's: expected the SHA-256 {sha256}, got "
            f"{found}. {REMEDIES}"
        )
    return np.frombuffer(content, np.uint8, offset=4 + 4 * ndim).reshape(shape)


def _contents(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        what = f"is truncated or corrupted ({error})"
    except OSError as error:
        what = f"cannot be read ({error.strerror})"
    raise DataError(f"{path} {what}. {REMEDIES}")

"""MNIST's files: the IDX format, read from a folder and checked against corruption."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from math import prod
from pathlib import Path

import numpy as np

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

WAYS_OUT = (
    "The ways out: put the four original files of MNIST into a folder and name it with "
    "--data-dir, train on data of your own with --dataset FILE.npz, or on the embedded "
    "digits with --dataset digits."
)


class DataError(Exception):
    """Data that cannot be had or trusted; says which, why, and the ways out."""


def read_mnist(folder: Path) -> dict[str, np.ndarray]:
    """The four arrays of MNIST by file name, from files as they are or gzipped."""
    if not folder.is_dir():
        raise DataError(f"--data-dir {folder} is not a folder. {WAYS_OUT}")
    found = {
        name: path
        for name in MNIST_FILES
        for path in (folder / f"{name}.gz", folder / name)
        if path.is_file()
    }
    if missing := [name for name in MNIST_FILES if name not in found]:
        raise DataError(
            f"--data-dir {folder} lacks {', '.join(missing)} (each may end in .gz). "
            + WAYS_OUT
        )
    return {name: read_idx(found[name], MNIST_FILES[name]) for name in MNIST_FILES}


def read_idx(path: Path, sha256: str | None = None) -> np.ndarray:
    """The bytes of an IDX file, gzipped or not, as an array of its shape.

    ``sha256`` is the digest that its contents, unzipped, must have.
    """
    content = _contents(path)
    # two zeros, 8 for unsigned bytes, the number of axes; then the axes' lengths
    ndim = content[3] if content[:3] == b"\0\0\x08" and len(content) > 3 else 0
    if ndim == 0 or len(content) < 4 + 4 * ndim:
        raise DataError(f"{path} is not an IDX file of bytes. {WAYS_OUT}")
    shape = tuple(np.frombuffer(content, ">u4", ndim, offset=4).tolist())
    due, got = 4 + 4 * ndim + prod(shape), len(content)
    if got != due:
        what = "truncated" if got < due else "too long"
        raise DataError(
            f"{path} is {what}: {got} bytes, where its header announces {due}. "
            + WAYS_OUT
        )
    if sha256 is not None and (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise DataError(
            f"{path} is corrupted, or not MNIST's: the SHA-256 of its contents is "
            f"{found}, not {sha256}. {WAYS_OUT}"
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
    raise DataError(f"{path} {what}. {WAYS_OUT}")

"""SVHN's digitStruct.mat: the digits of each image and their boxes.

The file is MATLAB's, version 7.3, which is HDF5::

    digitStruct/name    (N, 1), references to the images' names: (length, 1), uint16
    digitStruct/bbox    (N, 1), references to groups: height, label, left, top, width

Each of the five is a number ``(1, 1)`` if the image has one digit; for ``n`` digits it
is ``(n, 1)``, references to such numbers. An image without digits has an empty matrix.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import DataError

DIGIT_STRUCT = "digitStruct.mat"
SVHN_PAGE = "http://ufldl.stanford.edu/housenumbers/"
FIELDS = ("label", "left", "top", "width", "height")
BLOCK = 1000  # references read at once


class Number(NamedTuple):
    """The number in an image."""

    image: str
    """The name of the image's file."""
    labels: np.ndarray
    """``(n,)``, floats, one for each digit."""
    boxes: np.ndarray
    """``(n, 4)``, floats: left, top, width and height in pixels."""


def count_numbers(path: Path) -> int:
    """The number of images that a digitStruct.mat describes.

    Raises:
      DataError: h5py is missing; the file is missing, corrupt, or something else.
    """
    with _opened(path) as file:
        return len(_columns(path, file)[0])


def read_numbers(path: Path, start: int = 0) -> Iterator[Number]:
    """Read the images' numbers one after the other, from the number ``start``.

    Raises:
      DataError: as :func:`count_numbers`.
    """
    with _opened(path) as file:
        names, boxes = _columns(path, file)
        for at in range(start, len(names), BLOCK):
            block = slice(at, at + BLOCK)
            for pair in zip(names[block, 0], boxes[block, 0], strict=True):
                name, box = (_referred(file.id, reference) for reference in pair)
                yield _number(path, name, box)


def _h5py() -> Any:
    """The package h5py; its low-level functions have no types."""
    try:
        return import_module("h5py")
    except ImportError:
        raise DataError("--dataset svhn needs h5py: pip install h5py") from None


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open an HDF5 file; turn what h5py raises, also later, into a DataError."""
    h5py = _h5py()
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (DataError, MemoryError):
        raise
    except Exception as error:  # corrupt bytes raise half a dozen types
        why = str(error) or type(error).__name__
        raise _not_digit_struct(path, " ".join(why.split())) from error


def _columns(path: Path, file: Any) -> tuple[Any, Any]:
    """The references to the names and to the boxes, ``(N, 1)`` each."""
    found = [file.get(f"digitStruct/{name}") for name in ("name", "bbox")]
    if any(not _is_column(column) for column in found):
        held = ", ".join(file) or "nothing"
        raise _not_digit_struct(path, f"it holds {held}, in another structure")
    names, boxes = found
    if len(names) != len(boxes) or len(names) == 0:
        counts = f"it lists {len(names):,} names and {len(boxes):,} boxes"
        raise _not_digit_struct(path, counts)
    return names, boxes


def _is_column(found: Any) -> bool:
    """Whether something in an HDF5 file is an array ``(N, 1)`` of references."""
    h5py = _h5py()
    return (
        isinstance(found, h5py.Dataset)
        and h5py.check_ref_dtype(found.dtype) is h5py.Reference
        and found.ndim == 2
        and found.shape[1] == 1
    )


def _number(path: Path, codes: Any, group: Any) -> Number:
    """An image's name, which must be that of a file in its folder, and its digits."""
    name = "".join(map(chr, _read(codes).reshape(-1)))
    if Path(name).name != name or name in ("", "..") or not name.isprintable():
        raise _not_digit_struct(path, f"it names an image {name!r}")
    columns = _fields(group)
    if len({len(column) for column in columns}) > 1:
        pairs = zip(columns, FIELDS, strict=True)
        counts = ", ".join(f"{len(column)} of {field}" for column, field in pairs)
        raise _not_digit_struct(path, f"for {name} it lists {counts}")
    values = np.array(columns, float).T
    return Number(name, values[:, 0], values[:, 1:])


# by h5py's low-level functions, which take a third of the time: a digit has five
# references


def _referred(file: Any, reference: Any) -> Any:
    """What a reference points to."""
    return _h5py().h5r.dereference(reference, file)


def _fields(group: Any) -> list[list[float]]:
    """The fields of the digits of an image."""
    h5 = _h5py()
    if isinstance(group, h5.h5d.DatasetID) and h5.h5a.exists(group, b"MATLAB_empty"):
        return [[] for _ in FIELDS]
    return [_field(h5.h5o.open(group, field.encode())) for field in FIELDS]


def _field(field: Any) -> list[float]:
    """A field of all digits of an image: itself a number, or references to numbers."""
    if field.dtype.kind != "O":
        return [_value(field)]
    return [_value(_referred(field, reference)) for reference in _read(field).flat]


def _value(dataset: Any) -> float:
    h5 = _h5py()
    if dataset.shape != (1, 1):
        raise ValueError(f"a digit has an array {dataset.shape} for a number")
    value = np.empty((1, 1))
    dataset.read(h5.h5s.ALL, h5.h5s.ALL, value, h5.h5t.NATIVE_DOUBLE)
    return value.item()


def _read(dataset: Any) -> np.ndarray:
    h5 = _h5py()
    values = np.empty(dataset.shape, dataset.dtype)
    dataset.read(h5.h5s.ALL, h5.h5s.ALL, values)
    return values


def _not_digit_struct(path: Path, why: str) -> DataError:
    return DataError(
        f"{path} is truncated, corrupted, or no {DIGIT_STRUCT} of SVHN's full numbers: "
        f"{why}. Unpack {path.parent.name}.tar.gz of {SVHN_PAGE} again."
    )

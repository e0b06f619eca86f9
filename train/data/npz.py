"""Datasets in .npz files, checked by their headers before they are decompressed."""

from __future__ import annotations

import contextlib
import io
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ..configs import DATA_LIMIT
from ..errors import DataError
from .arrays import Dataset, check_size
from .checks import as_split, check_same_shape, check_trained, number_of_classes
from .npz_names import PARTS, file_names, listed, shortened

LONGEST_HEADER = 2**14  # bytes; NumPy writes a few hundred


def load_npz(
    path: Path, keys: Sequence[str] = (), limit: float = DATA_LIMIT
) -> Dataset:
    """Load the arrays x_train, y_train, x_test and y_test of an .npz file.

    The file may also hold x_val and y_val, and ``classes``, the names of the classes.

    Args:
      path: the file.
      keys: the file's names of the arrays, as "x_train=images". By default they are
        those above.
      limit: GB that the arrays may need.

    Raises:
      DataError: the file is missing or corrupt, needs more memory than the limit, or
        its arrays are no images with labels.
    """
    with (
        _reported(path),
        path.open("rb") as file,
        zipfile.ZipFile(file) as archive,
    ):
        names = file_names(path, _names(archive), keys)
        sizes = [_size(path, archive, name) for name in names.values()]
        check_size(str(path), sum(sizes), limit)
        arrays = {role: _read_npz(archive, name) for role, name in names.items()}
    shown = {role: f"{path}: {shortened(name)}" for role, name in names.items()}
    return _dataset(path, arrays, shown)


def _dataset(
    path: Path, arrays: dict[str, np.ndarray], names: Mapping[str, str]
) -> Dataset:
    """Check the arrays; ``names`` are those that errors use."""
    splits = {
        part: as_split(arrays.pop(x), arrays.pop(y), names[x], names[y])
        for part, (x, y) in PARTS.items()
        if x in arrays
    }
    train = splits["train"]
    count = number_of_classes(train.labels, names["y_train"])
    for part, split in splits.items():
        x, y = PARTS[part]
        check_same_shape(split, train, names[x], names["x_train"])
        check_trained(split.labels, train.labels, names[y])
    classes = tuple(map(str, range(count)))
    if "classes" in arrays:
        classes = _class_names(arrays["classes"], count, names["classes"])
    validation = splits.get("validation")
    return Dataset(path.stem, train, splits["test"], classes, validation)


def _class_names(classes: np.ndarray, count: int, name: str) -> tuple[str, ...]:
    """Check the array of the classes' names: a string for each label."""
    if classes.ndim != 1 or classes.dtype.kind != "U":
        raise DataError(
            f"{name} must be strings (N,), the names of the classes; got "
            f"{classes.dtype} {classes.shape}."
        )
    if len(classes) < count:
        raise DataError(
            f"{name} holds {len(classes)} names, but the labels run from 0 to "
            f"{count - 1}: store {count} names."
        )
    if len(set(classes.tolist())) < len(classes) or "" in classes.tolist():
        raise DataError(f"{name} must hold different names, none of them empty.")
    return tuple(classes.tolist())


def load_images(path: Path, limit: float = DATA_LIMIT) -> tuple[str, np.ndarray]:
    """Load the array "images" of an .npz file, or its only array.

    Args:
      path: the file.
      limit: GB that the array may need.

    Returns:
      The array's name and the array.

    Raises:
      DataError: the file is corrupt, the array larger than the limit, or none of
        several arrays is named "images".
    """
    with (
        _reported(path),
        path.open("rb") as file,
        zipfile.ZipFile(file) as archive,
    ):
        present = _names(archive)
        chosen = [name for name in present if name == "images"] or present
        if len(chosen) != 1:
            raise DataError(
                f"{path} must hold one array, or one that is named images; it holds "
                f"{listed(present)}."
            )
        check_size(str(path), _size(path, archive, chosen[0]), limit)
        return chosen[0], _read_npz(archive, chosen[0])


# members of the archive


@contextlib.contextmanager
def _reported(path: Path) -> Iterator[None]:
    """Turn what a missing or corrupt file raises into a DataError."""
    try:
        yield
    except (DataError, MemoryError):
        raise
    except FileNotFoundError:
        raise DataError(
            f"--dataset {path}: no such file. --dataset digits needs none."
        ) from None
    except IsADirectoryError:
        raise DataError(
            f"--dataset {path} is a folder, but a name that ends in .npz stands for a "
            "file. Rename the folder if it holds images by class."
        ) from None
    # zipfile, zlib, bz2, lzma and NumPy raise a dozen types on corrupt bytes
    except Exception as error:
        reason = getattr(error, "strerror", None)
        if isinstance(error, OSError) and reason:
            raise DataError(f"{path} cannot be read ({reason}).") from error
        raise DataError(
            f"{path} is truncated, corrupted, or not an .npz file "
            f"({str(error) or type(error).__name__}). Store it again with numpy.savez."
        ) from error


def _names(archive: zipfile.ZipFile) -> list[str]:
    return [info.filename.removesuffix(".npy") for info in archive.infolist()]


def _info(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    return archive.infolist()[_names(archive).index(name)]


def _size(path: Path, archive: zipfile.ZipFile, name: str) -> int:
    """The bytes of an array, by the zip directory and by the array's own header.

    Only the header is decompressed.
    """
    info, where = _info(archive, name), f"{path}: {shortened(name)}"
    if info.flag_bits & 1:
        raise DataError(f"{where} is encrypted. Store it without a password.")
    # Python's bz2 and lzma archives expand without a bound
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(
            f"{where} is compressed by an unusual method. Store it with "
            "numpy.savez_compressed."
        )
    with archive.open(info) as file:
        start = io.BytesIO(file.read(LONGEST_HEADER))
    shape, dtype = _array_header(where, start)
    size = prod(shape) * dtype.itemsize
    stored = info.file_size - start.tell()
    _check_dtype(where, dtype)
    if size != stored:
        raise DataError(
            f"{where} is truncated or corrupted: expected {size:,} bytes by its header "
            f"({dtype} {shape}), got {stored:,}."
        )
    return size


def _check_dtype(where: str, dtype: np.dtype) -> None:
    """Refuse pickled objects and structured arrays."""
    if dtype.hasobject:
        raise DataError(
            f"{where} holds Python objects (pickled), which are not loaded. Store an "
            "array of numbers; images must have one size."
        )
    if dtype.kind == "V":
        raise DataError(
            f"{where} has the structured dtype {dtype}. Store an array of numbers."
        )


def _array_header(where: str, file: io.BytesIO) -> tuple[tuple[int, ...], Any]:
    """The shape and dtype of an array in .npy format."""
    version = None
    with contextlib.suppress(ValueError):
        version = np.lib.format.read_magic(file)
    # version 3 is for structured arrays alone
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise DataError(
            f"{where} is not an array in .npy format. Store it with numpy.savez."
        )
    shape, _, dtype = readers[version](file)
    if any(length < 0 for length in shape):
        raise DataError(f"{where} is corrupted: its shape is {shape}.")
    return shape, dtype


def _read_npz(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(_info(archive, name)) as file:
        return np.lib.format.read_array(file, allow_pickle=False)

"""SVHN's cropped digits, the "format 2" of its distribution: 32x32 pixels in color.

The files are MATLAB's, version 5: ``X``, bytes ``(32, 32, 3, N)``, and ``y``, ``(N,
1)`` from 1 to 10, where 10 stands for the digit 0.
"""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np

from ..errors import DataError
from .arrays import DIGITS, Dataset, Split, check_size
from .digit_struct import SVHN_PAGE

SVHN_FILES = {"train": "train_32x32.mat", "test": "test_32x32.mat"}
SIDE, CLASSES = 32, 10
REMEDY = f"Download {' and '.join(SVHN_FILES.values())} from {SVHN_PAGE}"


def load_svhn_cropped(folder: Path | None, limit: float) -> Dataset:
    """Load SVHN's cropped digits from the two files of its distribution.

    Args:
      folder: the folder with ``train_32x32.mat`` and ``test_32x32.mat``.
      limit: GB that the arrays may need.

    Raises:
      DataError: a file is missing or corrupt, needs more memory than the limit, or
        holds something else.
    """
    if folder is None:
        raise DataError(
            "--dataset svhn_cropped needs --data-dir, the folder with its files. "
            f"{REMEDY}."
        )
    if not folder.is_dir():
        raise DataError(f"--data-dir {folder} is not a folder. {REMEDY}.")
    paths = {part: folder / name for part, name in SVHN_FILES.items()}
    if missing := [path.name for path in paths.values() if not path.is_file()]:
        raise DataError(f"--data-dir {folder} lacks {', '.join(missing)}. {REMEDY}.")
    sizes = [_announced_size(path) for path in paths.values()]
    check_size(f"--data-dir {folder}", sum(sizes), limit)
    train, test = (_read_mat(path) for path in paths.values())
    return Dataset("svhn_cropped", train, test, DIGITS)


def _announced_size(path: Path) -> int:
    """The bytes of a file's images, by its headers, which must be those of SVHN."""
    from scipy import io

    try:
        variables = {name: of for name, *of in io.whosmat(path)}  # shape, dtype
    except Exception as error:  # SciPy raises a dozen types on corrupt bytes
        raise _not_svhn(path, str(error) or type(error).__name__) from error
    if not {"X", "y"} <= variables.keys():
        raise _not_svhn(path, f"it holds {', '.join(variables) or 'nothing'}")
    (images, dtype), (labels, _) = variables["X"], variables["y"]
    count = images[-1]
    shapes = (SIDE, SIDE, 3, count), (count, 1)
    if (images, labels) != shapes or dtype != "uint8" or count == 0:
        raise _not_svhn(path, f"X is {dtype} {images}, y {labels}")
    return prod(images)


def _read_mat(path: Path) -> Split:
    from scipy import io

    try:
        variables = io.loadmat(path, variable_names=("X", "y"))
        images, labels = variables["X"], variables["y"].reshape(-1)
    except MemoryError:
        raise
    except Exception as error:
        raise _not_svhn(path, str(error) or type(error).__name__) from error
    if labels.dtype.kind not in "uif":
        raise _not_svhn(path, f"y holds {labels.dtype}")
    wrong = ~np.isin(labels, np.arange(1, CLASSES + 1))
    if wrong.any():
        raise DataError(
            f"{path}: labels must be from 1 to {CLASSES}; {int(wrong.sum()):,} of "
            f"{len(labels):,} are others, the first is {labels[wrong][0]} (image "
            f"{int(wrong.argmax()) + 1}). {REMEDY} again."
        )
    images = np.ascontiguousarray(np.moveaxis(images, -1, 0))
    return Split(images, (labels % CLASSES).astype(np.int32))


def _not_svhn(path: Path, why: str) -> DataError:
    return DataError(
        f"{path} is truncated, corrupted, or no file of SVHN's cropped digits, X, "
        f"bytes ({SIDE}, {SIDE}, 3, N), and y (N, 1): {why}. {REMEDY} again."
    )

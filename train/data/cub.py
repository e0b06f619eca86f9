"""CUB-200-2011: photos of birds of 200 species, as the dataset is distributed.

Four text files describe the images; each line is a number and a value::

    images.txt              1 001.Black_footed_Albatross/Black_Footed_Albatross_0046.jpg
    image_class_labels.txt  1 1
    train_test_split.txt    1 0          1: training image, 0: test image
    classes.txt             1 001.Black_footed_Albatross

The boxes, parts and attributes of the dataset are not used.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..errors import DataError
from .arrays import Dataset
from .checks import check_trained
from .labeled_images import Labeled, read_labeled

CUB_SIZE = (224, 224)
CUB_FOLDER = "CUB_200_2011"
IMAGES, LABELS, SPLIT, CLASSES = (
    "images.txt",
    "image_class_labels.txt",
    "train_test_split.txt",
    "classes.txt",
)
CUB_REMEDY = (
    f"Unpack {CUB_FOLDER}.tgz of https://www.vision.caltech.edu/datasets/cub_200_2011/"
)


def load_cub(
    folder: Path | None,
    image_size: tuple[int, int] | None,
    limit: float,
    skip_bad: bool = False,
) -> Dataset:
    """Load CUB-200-2011 from its folder.

    Args:
      folder: ``CUB_200_2011``, or the folder that holds it.
      image_size: height and width, by default 224 224; each image is scaled to fit.
      limit: GB that all images together may need.
      skip_bad: leave out images that cannot be read, with a warning that lists them.

    Raises:
      DataError: a file is missing or malformed, the files do not describe the same
        images, test images of a class without training images, images that cannot be
        read, or more data than the limit.
    """
    if folder is None:
        raise DataError(
            f"--dataset cub needs --data-dir, the folder {CUB_FOLDER}. {CUB_REMEDY}."
        )
    if (folder / CUB_FOLDER).is_dir():
        folder = folder / CUB_FOLDER
    files, labels, split, classes = (
        _numbered(folder / name) for name in (IMAGES, LABELS, SPLIT, CLASSES)
    )
    for name, values in ((LABELS, labels), (SPLIT, split)):
        if differing := files.keys() ^ values.keys():
            raise DataError(
                f"{folder / name} and {IMAGES} describe different images: "
                f"{len(differing):,} differ, the first is {min(differing, key=int)}. "
                f"{CUB_REMEDY} again."
            )
    order = {number: index for index, number in enumerate(classes)}
    _check_values(folder / LABELS, labels, set(order), "classes of classes.txt")
    _check_values(folder / SPLIT, split, {"0", "1"}, "0 (test) or 1 (training)")
    parts = {}
    for part, mark in (("train", "1"), ("test", "0")):
        numbers = [number for number in files if split[number] == mark]
        paths = _paths(folder, [files[number] for number in numbers])
        parts[part] = Labeled(paths, [order[labels[number]] for number in numbers])
    for part, labeled in parts.items():
        if not labeled.files:
            raise DataError(f"{folder / SPLIT} names no {part} images.")
    names = tuple(name.partition(".")[2].replace("_", " ") for name in classes.values())
    train, test = parts["train"].labels, parts["test"].labels
    check_trained(np.array(test), np.array(train), str(folder / LABELS))
    size = image_size or CUB_SIZE
    return read_labeled(folder, "cub", names, parts, size, limit, skip_bad)


def _paths(folder: Path, names: Iterable[str]) -> list[Path]:
    """The image files of these names, which must lie in the dataset's folder."""
    for name in names:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise DataError(f"{folder / IMAGES} names a file outside images/: {name}.")
    return [folder / "images" / name for name in names]


def _numbered(path: Path) -> dict[str, str]:
    """The values of a text file by their numbers, in the file's order."""
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}). {CUB_REMEDY}."
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a text file. {CUB_REMEDY} again.") from error
    values: dict[str, str] = {}
    for at, line in enumerate(lines, start=1):
        number, _, value = line.partition(" ")
        if not number.isdigit() or not value.strip() or number in values:
            raise DataError(
                f"{path}, line {at}: expected a new number and a value, got {line!r}. "
                f"{CUB_REMEDY} again."
            )
        values[number] = value.strip()
    if not values:
        raise DataError(f"{path} is empty. {CUB_REMEDY} again.")
    return values


def _check_values(
    path: Path, values: dict[str, str], allowed: set[str], expected: str
) -> None:
    wrong = {n: value for n, value in values.items() if value not in allowed}
    if wrong:
        number, value = next(iter(wrong.items()))
        raise DataError(
            f"{path}: the values must be {expected}; {len(wrong):,} are others, the "
            f"first is {value!r} of image {number}. {CUB_REMEDY} again."
        )

"""Folders of images by class: DIR/train/CLASS/*.png, DIR/test/CLASS/*.png."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..configs import DATA_LIMIT
from ..errors import DataError
from .arrays import Dataset
from .idx import MNIST_FILES
from .labeled_images import Labeled, read_labeled
from .pictures import IMAGE_SUFFIXES

PARTS = {
    "train": ("train",),
    "test": ("test",),
    "validation": ("validation", "val", "valid"),
}
LAYOUT = (
    "Expected: train/CLASS/*.png and test/CLASS/*.png, with a folder for each class, "
    "optionally validation/CLASS/*.png."
)
IGNORED = ("thumbs.db", "desktop.ini")  # written by Windows


def load_folder(
    folder: Path,
    image_size: tuple[int, int] | None = None,
    limit: float = DATA_LIMIT,
    skip_bad: bool = False,
) -> Dataset:
    """Load the images of train/CLASS/, test/CLASS/ and, if present, validation/CLASS/.

    The images have one channel if all training images are grayscale, otherwise three.

    Args:
      folder: holds train and test.
      image_size: height and width; each image is scaled to fit. By default the size of
        the training images, or the median of their heights and of their widths.
      limit: GB that all images together may need.
      skip_bad: leave out images that cannot be read, with a warning that lists them.

    Raises:
      DataError: another layout, a class without images, images that cannot be read, or
        more data than the limit.
    """
    parts = _part_folders(folder)
    classes = folder_classes(parts["train"])
    labeled = {part: _labeled(path, classes) for part, path in parts.items()}
    name = folder.resolve().name or "images"
    return read_labeled(folder, name, classes, labeled, image_size, limit, skip_bad)


def folder_classes(train: Path) -> tuple[str, ...]:
    """The names of the class folders, sorted; as numbers if all are numbers.

    Raises:
      DataError: fewer than two classes, or files beside the class folders.
    """
    entries = _entries(train)
    for entry in entries:
        if not os.path.isdir(entry):
            raise DataError(f"{entry} is not a folder of a class. {LAYOUT}")
    names = [entry.name for entry in entries]
    if len(names) < 2:
        raise DataError(
            f"{train} holds {len(names)} class folders; a classifier needs at least "
            f"two. {LAYOUT}"
        )
    if all(name.isascii() and name.isdigit() for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


# the layout


def _part_folders(folder: Path) -> dict[str, Path]:
    """The folders of the parts; raise DataError on another layout."""
    names = {entry.name for entry in _entries(folder) if os.path.isdir(entry)}
    found = {part: [name for name in PARTS[part] if name in names] for part in PARTS}
    missing = [part for part in ("train", "test") if not found[part]]
    if missing:
        raise DataError(
            f"{folder} has no folder {' and no folder '.join(missing)}. {LAYOUT}"
            + _hint(folder, names, missing)
        )
    if len(several := found["validation"]) > 1:
        raise DataError(
            f"{folder} has the folders {' and '.join(several)}: keep one of them."
        )
    return {part: folder / name[0] for part, name in found.items() if name}


def _hint(folder: Path, names: set[str], missing: Sequence[str]) -> str:
    """What a folder of another layout seems to be, and what to do."""
    files = {entry.name.removesuffix(".gz") for entry in _entries(folder)}
    if files & set(MNIST_FILES):
        return f" For MNIST's files: --dataset mnist --data-dir {folder}."
    classes = [name for name in sorted(names) if _holds_images(folder / name)]
    if len(missing) == 2 and classes:
        some = ", ".join(classes[:3]) + (", ..." if len(classes) > 3 else "")
        return (
            f" It holds folders of images ({some}) without a division into training "
            "and test images: move most images of each class to train/CLASS, the "
            "others to test/CLASS."
        )
    return ""


def _holds_images(folder: Path) -> bool:
    return any(_is_image(entry) for entry in _entries(folder))


def _labeled(part: Path, classes: Sequence[str]) -> Labeled:
    """The image files of all class folders of a part, sorted."""
    labeled = Labeled([], [])
    for entry in _entries(part):
        if entry.name not in classes or not os.path.isdir(entry):
            raise DataError(
                f"{entry} is not a folder of one of the training classes "
                f"({', '.join(classes[:10])}{', ...' if len(classes) > 10 else ''})."
            )
        files = _image_files(entry)
        labeled.files.extend(files)
        labeled.labels.extend([classes.index(entry.name)] * len(files))
    if not labeled.files:
        raise DataError(f"{part} holds no images. {LAYOUT}")
    return labeled


def _image_files(folder: Path) -> list[Path]:
    """The images of a class; raise DataError if there are none, or other files."""
    entries = _entries(folder)
    for entry in entries:
        if not _is_image(entry):
            what = "folder" if os.path.isdir(entry) else "file"
            raise DataError(
                f"{entry}: a class folder holds images alone "
                f"({', '.join(IMAGE_SUFFIXES)}); remove or convert this {what}."
            )
    if not entries:
        raise DataError(f"{folder} holds no images: add some, or remove the folder.")
    return entries


def _is_image(entry: Path) -> bool:
    # os.path.isdir, unlike Path.is_dir, returns False for a loop of links
    return entry.name.lower().endswith(IMAGE_SUFFIXES) and not os.path.isdir(entry)


def _entries(folder: Path) -> list[Path]:
    """The entries of a folder, sorted, without hidden files."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error.strerror}).") from error
    return [
        folder / name
        for name in names
        if not name.startswith(".") and name.lower() not in IGNORED
    ]

"""SVHN's full numbers, the "format 1" of its distribution: one to five digits.

The folders ``train``, ``test`` and, if it is there, ``extra`` hold photos and a
``digitStruct.mat``, which lists their digits and the digits' boxes. Boxes count pixels
from 0, as the distribution's own ``see_bboxes.m`` takes them.

An image is cropped to the union of its boxes, as far as it lies in the photo, and
scaled to 64x64 pixels, without its aspect ratio. The paper also has a "looser" crop of
128x128 pixels, without a number. Twice the height and twice the width of the union, on
the same center, is our choice. Outside the photo the looser crop is black.

The images are converted once, to the folder ``stn_jax-64`` or ``stn_jax-128``, and
mapped from the disk.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import DataError
from .arrays import DIGITS, NONE, Dataset
from .converted import Example, Header, Target, ensure_converted, mapped
from .digit_struct import DIGIT_STRUCT, SVHN_PAGE, Number, count_numbers, read_numbers
from .pictures import read_picture

SCALES = {64: 1.0, 128: 2.0}  # side of an image: side of its crop, in that of the union
LENGTH = 5  # digits at most
PARTS = {"train": ("train", "extra"), "test": ("test",)}
REMEDY = f"Unpack train.tar.gz and test.tar.gz of {SVHN_PAGE}"


def load_svhn(
    folder: Path | None,
    image_size: tuple[int, int] | None,
    *,
    cache: Path | None = None,
    skip_bad: bool = False,
) -> Dataset:
    """Load SVHN's full numbers. The first call converts them.

    The images, bytes ``(N, S, S, 3)``, are mapped from the disk and read-only. The
    labels are ``(N, 5)``, the digits from left to right: class 0 is a place without a
    digit, and the digit d has the class d + 1.

    Args:
      folder: the folder with ``train``, ``test`` and perhaps ``extra``, whose images
        follow those of ``train``.
      image_size: 64 64 (the default), or 128 128, the looser crop.
      cache: the folder for the converted images; by default that of the distribution.
      skip_bad: whether to leave out images that cannot be used. The original has one,
        ``train/29929.png``, a number of six digits.

    Raises:
      DataError: another size; files are missing or corrupt; images cannot be used; the
        converted images cannot be written.
    """
    side = _side(image_size)
    folder = _checked_folder(folder)
    targets = _targets(folder, (cache or folder) / f"stn_jax-{side}", side)
    headers = [ensure_converted(target, _examples) for target in targets]
    _check_left_out(folder, headers, skip_bad)
    train, test = map(mapped, targets, headers)
    return Dataset("svhn", train, test, (NONE, *DIGITS))


def _side(image_size: tuple[int, int] | None) -> int:
    height, width = image_size or (64, 64)
    if height != width or height not in SCALES:
        raise DataError(
            "--dataset svhn has images of 64 64 and of 128 128 pixels; got "
            f"--image-size {height} {width}."
        )
    return height


def _checked_folder(folder: Path | None) -> Path:
    if folder is None:
        raise DataError(
            "--dataset svhn needs --data-dir, the folder with its folders train and "
            f"test. {REMEDY}."
        )
    if not folder.is_dir():
        raise DataError(f"--data-dir {folder} is not a folder. {REMEDY}.")
    if missing := [part for part in ("train", "test") if not (folder / part).is_dir()]:
        lacking = " and ".join(missing)
        raise DataError(f"--data-dir {folder} lacks the folder {lacking}. {REMEDY}.")
    return folder


def _targets(folder: Path, place: Path, side: int) -> list[Target]:
    """The training images and the test images."""
    targets = []
    for split, parts in PARTS.items():
        source = {p: _source(folder / p) for p in parts if (folder / p).is_dir()}
        total = sum(part["images"] for part in source.values())
        targets.append(Target(folder, place / split, side, LENGTH, total, source))
    return targets


def _source(part: Path) -> dict[str, Any]:
    """What identifies a part: its digitStruct.mat and the number of its images."""
    path = part / DIGIT_STRUCT
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        names = [name for name in os.listdir(part) if not name.startswith(".")]
        images = sum(name.lower().endswith(".png") for name in names)
        size = path.stat().st_size
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}). {_unpack(part)}."
        ) from error
    if not images:
        raise DataError(f"{part} holds no images (.png). {_unpack(part)}.")
    return {"bytes": size, "sha256": digest, "images": images}


def _unpack(part: Path) -> str:
    return f"Unpack {part.name}.tar.gz of {SVHN_PAGE} again"


def _check_left_out(folder: Path, headers: Sequence[Header], skip_bad: bool) -> None:
    """Warn of images that were left out, or raise DataError."""
    faults = [entry["fault"] for header in headers for entry in header.left_out]
    if not faults:
        return
    counts = f"{len(faults):,} of {sum(header.read for header in headers):,} images"
    if skip_bad and all(header.count for header in headers):
        text = f"{folder}: {counts} are left out. The first: {faults[0]}"
        warnings.warn(text, stacklevel=3)
        return
    more = f" And {len(faults) - 5:,} more." if len(faults) > 5 else ""
    option = "" if skip_bad else ", or leave them out with --skip-bad"
    raise DataError(
        f"{folder}: {counts} cannot be used. Unpack the files of {SVHN_PAGE} again"
        f"{option}. {' '.join(faults[:5])}{more}"
    )


# conversion


def _examples(target: Target, start: int) -> Generator[Example, None, None]:
    """The images of a split, cropped, and their digits, from the image ``start``."""
    counts = {part: _count_images(target, part) for part in target.source}
    for part, count in counts.items():
        if start < count:
            folder = target.folder / part
            for number in read_numbers(folder / DIGIT_STRUCT, start):
                content = _content(folder / number.image, number, target.side)
                yield Example(f"{part}/{number.image}", content)
        start = max(start - count, 0)


def _count_images(target: Target, part: str) -> int:
    """The number of images that a part lists, which must be that of its files."""
    folder, images = target.folder / part, target.source[part]["images"]
    listed = count_numbers(folder / DIGIT_STRUCT)
    if listed != images:
        raise DataError(
            f"{folder} holds {images:,} images (.png), its {DIGIT_STRUCT} lists "
            f"{listed:,}. {_unpack(folder)}."
        )
    return listed


def _content(
    path: Path, number: Number, side: int
) -> tuple[np.ndarray, np.ndarray] | DataError:
    """The crop ``(S, S, 3)`` of an image and its label ``(5,)``, or its fault."""
    if not path.is_file():
        raise DataError(
            f"{path}, which {DIGIT_STRUCT} lists, is missing. {_unpack(path.parent)}."
        )
    try:
        digits = _digits(path, number.labels)
        return _crop(path, read_picture(path, 3), number.boxes, side), digits
    except DataError as error:
        return DataError(str(error).replace(str(path.parent.parent) + os.sep, ""))


def _digits(path: Path, labels: np.ndarray) -> np.ndarray:
    """The classes ``(5,)``, from labels ``(n,)`` that are 10 for the digit 0."""
    if not 1 <= len(labels) <= LENGTH:
        raise DataError(f"{path} has {len(labels)} digits, not 1 to {LENGTH}.")
    wrong = ~np.isin(labels, np.arange(1, 11))
    if wrong.any():
        first = labels[wrong][0]
        raise DataError(f"{path} has a digit with the label {first:g}, not 1 to 10.")
    classes = np.zeros(LENGTH, np.int32)
    classes[: len(labels)] = labels % 10 + 1
    return classes


def _crop(path: Path, image: np.ndarray, boxes: np.ndarray, side: int) -> np.ndarray:
    """The part of an image ``(H, W, 3)`` around boxes, scaled to a square."""
    low, high = _union(path, image, boxes)
    margin = (SCALES[side] - 1) / 2 * (high - low)
    low, high = low - margin, high + margin
    start, end = np.floor(low).astype(int), np.ceil(high).astype(int)
    # cropped first, so that the filter does not reach beyond; black outside the image
    cropped = Image.fromarray(image).crop((*start.tolist(), *end.tolist()))
    box = (*(low - start).tolist(), *(high - start).tolist())
    # antialiased: the filter's support grows when the image shrinks
    return np.asarray(cropped.resize((side, side), Image.Resampling.LANCZOS, box))


def _union(
    path: Path, image: np.ndarray, boxes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The corners (x, y) of the union of boxes, as far as it lies in the image."""
    size = np.array([image.shape[1], image.shape[0]])
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    low_inside, high_inside = np.maximum(low, 0), np.minimum(high, size)
    for faulty, what in (
        (~np.isfinite(boxes).all(1), "is not finite"),
        ((boxes[:, 2:] <= 0).any(1), "is empty"),
        (
            (high_inside - low_inside < 1).any(1),
            f"holds no pixel of the image, {size[0]}x{size[1]}",
        ),
    ):
        if faulty.any():
            box = ", ".join(f"{value:g}" for value in boxes[faulty][0])
            raise DataError(
                f"{path}: the box of a digit (left, top, width, height: {box}) {what}."
            )
    return low_inside.min(0), high_inside.max(0)

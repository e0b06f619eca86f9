"""Image files with labels, decoded to arrays of one size."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import DataError
from .arrays import Dataset, Split, check_size
from .pictures import Header, fit_into, read_header, read_picture


class Labeled(NamedTuple):
    """The files of a part, and their labels."""

    files: list[Path]
    labels: list[int]


def read_labeled(
    folder: Path,
    name: str,
    classes: tuple[str, ...],
    labeled: Mapping[str, Labeled],
    image_size: tuple[int, int] | None,
    limit: float,
    skip_bad: bool = False,
) -> Dataset:
    """Decode the image files of all parts.

    The images have one channel if all training images are grayscale, otherwise three.

    Args:
      folder: what errors name.
      name: of the dataset.
      classes: the names of the classes.
      labeled: the files and labels of "train", "test" and, if present, "validation".
      image_size: height and width; each image is scaled to fit. By default the size of
        the training images, or the median of their heights and of their widths.
      limit: GB that all images together may need.
      skip_bad: leave out images that cannot be read, with a warning that lists them.

    Raises:
      DataError: images that cannot be read, or more data than the limit.
    """
    files = [file for part in labeled.values() for file in part.files]
    headers, faults = _read_headers(files)
    found = [headers[file] for file in labeled["train"].files if file in headers]
    if not found:
        raise _unreadable(folder, faults, len(files))
    size = image_size or common_size(found)
    channels = 1 if all(header.is_gray for header in found) else 3
    check_size(str(folder), len(files) * size[0] * size[1] * channels, limit)
    splits = {
        part: _decode(of, (*size, channels), faults) for part, of in labeled.items()
    }
    if faults and not skip_bad:
        raise _unreadable(folder, faults, len(files))
    if faults:
        splits = _without(splits, labeled, faults)
        left_out = "".join(f"\n  {faults[file]}" for file in sorted(faults))
        text = f"{folder}: {len(faults):,} of {len(files):,} images are left out:"
        warnings.warn(text + left_out, stacklevel=4)
    return Dataset(
        name, splits["train"], splits["test"], classes, splits.get("validation")
    )


def common_size(headers: Sequence[Header]) -> tuple[int, int]:
    """The size of images if it is one, else their median height and median width."""
    heights, widths = zip(*(header.size for header in headers), strict=True)
    return int(np.median(heights)), int(np.median(widths))


def _read_headers(
    files: Sequence[Path],
) -> tuple[dict[Path, Header], dict[Path, DataError]]:
    """The headers of the images that can be opened, and the other images' errors."""
    headers, faults = {}, {}
    for file in files:
        try:
            headers[file] = read_header(file)
        except DataError as error:
            faults[file] = error
    return headers, faults


def _decode(
    labeled: Labeled, shape: tuple[int, int, int], faults: dict[Path, DataError]
) -> Split:
    """Decode the images of a part to ``(N, *shape)``; add errors to ``faults``."""
    images = np.zeros((len(labeled.files), *shape), np.uint8)
    for index, file in enumerate(labeled.files):
        if file in faults:
            continue
        try:
            images[index] = fit_into(read_picture(file, shape[-1]), shape[:2])
        except DataError as error:
            faults[file] = error
    return Split(images, np.array(labeled.labels, np.int32))


def _without(
    splits: Mapping[str, Split],
    labeled: Mapping[str, Labeled],
    faults: Mapping[Path, DataError],
) -> dict[str, Split]:
    """The parts without the images that cannot be read, if some are left in each."""
    left = {}
    for part, split in splits.items():
        good = np.array([file not in faults for file in labeled[part].files], bool)
        if not good.any():
            first = next(iter(faults.values()))
            raise DataError(f"no {part} image can be read. {first}")
        left[part] = Split(*(x[good] for x in split))
    return left


def _unreadable(folder: Path, faults: dict[Path, DataError], count: int) -> DataError:
    some = " ".join(str(faults[file]) for file in sorted(faults)[:5])
    more = f" And {len(faults) - 5:,} more." if len(faults) > 5 else ""
    return DataError(
        f"{folder}: {len(faults):,} of {count:,} images cannot be read; replace or "
        f"remove them, or leave them out with --skip-bad. {some}{more}"
    )

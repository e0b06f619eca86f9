"""Datasets as arrays, and the limit of their size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..errors import DataError

DIGITS = tuple("0123456789")  # the classes of MNIST and SVHN
NONE = "none"  # class 0 of a house number's places: no digit


class Split(NamedTuple):
    """A part of a dataset."""

    images: np.ndarray
    """``(N, H, W, C)``, bytes or floats in [0, 1]."""
    labels: np.ndarray
    """``(N,)``, int32, from 0. Of house numbers ``(N, 5)``, where class 0 is a place
    without a digit."""


class Dataset(NamedTuple):
    """Images with labels, and the names of the classes."""

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    """The classes' names, in the order of the labels."""
    validation: Split | None = None
    """Images that are neither trained on nor tested on; None if the dataset has no such
    part of its own."""


def label_text(label: np.ndarray, classes: Sequence[str]) -> str:
    """A label in words: the name of a class, or the digits of a house number."""
    if np.ndim(label) == 0:
        return classes[int(label)]
    return "".join(classes[int(at)] for at in label if at)


def check_size(what: str, num_bytes: int, limit: float) -> None:
    """Raise DataError if data would need more than ``limit`` GB (10^9 bytes).

    Callers compute ``num_bytes`` from the headers, before they decompress anything.
    """
    if num_bytes > limit * 1e9:
        size = num_bytes / 1e9
        raise DataError(
            f"{what} needs {f'{size:,.0f}' if size >= 100 else f'{size:.3g}'} GB when "
            f"decompressed; the limit is {limit:g} GB. If the memory suffices, raise "
            f"the limit with --data-limit {math.ceil(size)}."
        )

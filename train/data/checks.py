"""Checks of a user's images and labels.

Each error says what was found and what to do. The values are never changed to fit: a
layout or a normalization that the program guesses could be wrong.
"""

from __future__ import annotations

import math

import numpy as np

from ..errors import DataError
from .arrays import Split

LARGEST_LABEL = 2**31 - 1
FROM_ZERO = (
    "number them with `classes, y_train = np.unique(y_train, return_inverse=True)` and "
    "`y_test = np.searchsorted(classes, y_test)`"
)


def as_split(x: np.ndarray, y: np.ndarray, x_name: str, y_name: str) -> Split:
    """Check the images and labels of a part. Errors call them by the names."""
    images, labels = as_images(x, x_name), as_labels(y, y_name)
    if len(images) != len(labels):
        last = x.shape[-1] == len(labels)  # as MATLAB stores images
        hint = ". The images lie along its last axis: store np.moveaxis(x, -1, 0)"
        raise DataError(
            f"{x_name} holds {len(images)} images, {y_name} {len(labels)} labels"
            f"{hint if last else ''}."
        )
    return Split(images, labels)


# images


def as_images(x: np.ndarray, name: str) -> np.ndarray:
    """Check images of any layout and dtype.

    Args:
      x: ``(N, H, W)`` or ``(N, H, W, C)``, uint8 or floats in [0, 1].
      name: what errors call the array.

    Returns:
      ``(N, H, W, C)``, uint8 or float32.

    Raises:
      DataError: another shape or dtype, other values, no images.
    """
    x = _with_channels(x, name)
    if x.dtype.kind == "f":
        return _floats(x, name)
    if x.dtype.kind == "u" and x.dtype.itemsize == 1:
        if x.max() == 1:
            advice = "These images would be almost black: store 255 * x."
            raise _not_pixels(x, name, advice)
        return x
    if x.dtype.kind == "b":
        raise _not_pixels(x, name, "Store 255 * x.astype(np.uint8).")
    if x.dtype.kind in "iu":
        raise _not_pixels(x, name, _advice_on_integers(int(x.min()), int(x.max())))
    raise DataError(f"{name} must be bytes (uint8) or floats in [0, 1]; got {x.dtype}.")


def _with_channels(x: np.ndarray, name: str) -> np.ndarray:
    """The images as ``(N, H, W, C)``, after a check of the shape."""
    if x.ndim not in (3, 4):
        hint = f" {_advice_on_rows(x.shape[1])}" if x.ndim == 2 else ""
        raise DataError(
            f"{name} must be (N, H, W) or (N, H, W, C); got {x.shape}.{hint}"
        )
    if len(x) == 0:
        raise DataError(f"{name} holds no images: its shape is {x.shape}.")
    if 0 in x.shape:
        raise DataError(f"{name} holds images without pixels: its shape is {x.shape}.")
    if x.ndim == 4 and x.shape[1] in (1, 3, 4) and x.shape[3] > 4:
        raise DataError(
            f"{name} must be (N, H, W, C); got {x.shape}, which looks like "
            "(N, C, H, W): store x.transpose(0, 2, 3, 1)."
        )
    return x if x.ndim == 4 else x[..., None]


def _advice_on_rows(length: int) -> str:
    side = math.isqrt(length)
    if side > 1 and side * side == length:
        return (
            f"These look like flattened images of {side}x{side} pixels: store "
            f"x.reshape(-1, {side}, {side})."
        )
    return "If the images are flattened, store x.reshape(-1, height, width, channels)."


def _floats(x: np.ndarray, name: str) -> np.ndarray:
    """Floats as float32, after a check that they are in [0, 1]."""
    with np.errstate(invalid="ignore"):
        low, high = float(x.min()), float(x.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        bad = sum(not np.isfinite(image).all() for image in x)
        raise DataError(
            f"{name} must be finite; {bad:,} of its {len(x):,} images hold NaN or "
            "infinity. Remove these images or repair them, for instance with "
            "np.nan_to_num."
        )
    if low < 0 or high > 1:
        raise _not_pixels(x, name, _advice_on_floats(low, high))
    return x.astype(np.float32, copy=False)


def _advice_on_floats(low: float, high: float) -> str:
    if low >= 0 and high <= 255:
        return (
            "These look like bytes: store x / 255, or x.astype(np.uint8) if the values "
            "are whole numbers."
        )
    scaled = "Store (x + 1) / 2. " if low >= -1 and high <= 1 else ""
    return (
        f"{scaled}The transformer samples zeros outside the image; with another "
        "normalization these would look like a bright frame."
    )


def _advice_on_integers(low: int, high: int) -> str:
    if low >= 0 and high == 1:
        return "Store (255 * x).astype(np.uint8)."
    if low >= 0 and high <= 255:
        return "Store x.astype(np.uint8)."
    return "Scale them to floats in [0, 1], for instance x / 65535 if x has 16 bits."


def _not_pixels(x: np.ndarray, name: str, advice: str) -> DataError:
    return DataError(
        f"{name} must be bytes (uint8) or floats in [0, 1]; got {x.dtype} from "
        f"{x.min()} to {x.max()}. {advice}"
    )


# labels


def as_labels(y: np.ndarray, name: str) -> np.ndarray:
    """Check labels of any layout and dtype.

    Args:
      y: ``(N,)`` or ``(N, 1)``, integers from 0 to 2**31 - 1.
      name: what errors call the array.

    Returns:
      ``(N,)``, int32.

    Raises:
      DataError: another shape or dtype, other values, no labels.
    """
    y = y.reshape(-1) if y.ndim == 2 and y.shape[1] == 1 else y
    if y.ndim != 1 or y.dtype.kind not in "iu":
        raise DataError(
            f"{name} must be classes (N,), integers from 0; got {y.dtype} {y.shape}. "
            + _advice_on_labels(y)
        )
    if len(y) == 0:
        raise DataError(f"{name} holds no labels.")
    low, high = int(y.min()), int(y.max())
    if low < 0 or high > LARGEST_LABEL:
        raise DataError(
            f"{name} must be classes (N,), integers from 0; got {y.dtype} from {low} "
            f"to {high}: {FROM_ZERO}."
        )
    return y.astype(np.int32)


def _advice_on_labels(y: np.ndarray) -> str:
    if y.ndim == 2 and y.dtype.kind in "biuf":
        return "If each row marks one class, store y.argmax(axis=1)."
    if y.ndim == 1 and y.dtype.kind in "US":
        return f"These are names: {FROM_ZERO}; store `classes` as well."
    if y.ndim == 1 and y.dtype.kind in "bf":
        return "If the values are whole numbers, store y.astype(np.int32)."
    return "Each image has one label."


def number_of_classes(labels: np.ndarray, name: str) -> int:
    """The number of classes that the training labels ``(N,)`` imply.

    Labels between 0 and the largest may be missing.

    Raises:
      DataError: fewer than two classes, no label 0, or more classes than images.
    """
    present = np.unique(labels)
    low, high = int(present[0]), int(present[-1])
    if len(present) == 1:
        raise DataError(
            f"{name} holds only the label {low}: a classifier needs at least two "
            "classes."
        )
    if low == 1:
        raise DataError(
            f"{name}: the labels run from 1 to {high}; they must count from 0: "
            "subtract 1 from the labels of all parts."
        )
    if low > 0:
        raise DataError(
            f"{name}: the labels run from {low} to {high}; they must count from 0: "
            f"{FROM_ZERO}."
        )
    if high >= len(labels):
        raise DataError(
            f"{name}: the label {high} would mean {high + 1:,} classes for "
            f"{len(labels):,} training images, which is implausible. If the labels are "
            f"not consecutive, {FROM_ZERO}."
        )
    return high + 1


def check_same_shape(split: Split, train: Split, name: str, train_name: str) -> None:
    """Raise DataError unless a part's images have the shape of the training images."""
    shape, expected = split.images.shape[1:], train.images.shape[1:]
    if shape != expected:
        raise DataError(
            f"the images of {train_name} have the shape {expected}, those of {name} "
            f"{shape}; the shapes must be equal."
        )


def check_trained(labels: np.ndarray, train_labels: np.ndarray, name: str) -> None:
    """Raise DataError if labels do not occur among the training labels."""
    unknown = np.setdiff1d(labels, train_labels)
    if len(unknown):
        some = ", ".join(map(str, unknown[:5])) + (", ..." if len(unknown) > 5 else "")
        count = int(np.isin(labels, unknown).sum())
        raise DataError(
            f"{name} holds labels without training images: {some}. Remove these "
            f"{count:,} images, or add training images of the classes."
        )

"""Images that a user names for a trained model: files, folders, arrays in .npz files.

Each image that cannot be used has an error of its own; the others are classified.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np

from ..data.checks import as_images
from ..data.npz import load_images
from ..data.pictures import IMAGE_SUFFIXES, fit_into, read_picture
from ..errors import DataError
from ..storage.cards import Card


class Input(NamedTuple):
    """An image that the user has named."""

    name: str
    """The path; for an array, with the index of the image: ``digits.npz[3]``."""
    read: Callable[[], np.ndarray]
    """Read the image, ``(*size, C)``, bytes or floats. It may raise a DataError."""


def find_inputs(paths: Sequence[Path], card: Card, limit: float) -> list[Input]:
    """Find the images that paths name. Only .npz files are read.

    Args:
      paths: image files, folders with image files, and .npz files.
      card: describes the model.
      limit: GB that the array of an .npz file may need.

    Returns:
      The images. A path without usable images is an input whose ``read`` raises.
    """
    found = []
    for path in paths:
        try:
            found += _inputs_of(path, card, limit)
        except DataError as error:
            found.append(Input(str(path), partial(_fail, error)))
    return found


def prepare(item: Input, card: Card, resize: bool) -> np.ndarray:
    """Read an image and give it the shape that the model takes.

    Args:
      item: the image.
      card: describes the model.
      resize: whether an image of another size is scaled to fit.

    Returns:
      Floats ``card.input_shape`` in ``card.input_range``.

    Raises:
      DataError: the image cannot be read, or has another size or number of channels.
    """
    image, shape = item.read(), card.input_shape
    if image.shape[-1] != shape[-1]:
        raise DataError(
            f"{item.name} has {_count(image.shape[-1], 'channel')}; the model "
            f"{card.model} takes {_count(shape[-1], 'channel')}."
        )
    if image.shape != shape:
        image = _resized(image, item.name, card, resize)
    return image.astype(np.float32) / 255 if image.dtype == np.uint8 else image


def normalized(images: np.ndarray, card: Card) -> np.ndarray:
    """Images in ``card.input_range`` as the model takes them."""
    return (images - np.float32(card.mean)) / np.float32(card.std)


def _resized(image: np.ndarray, name: str, card: Card, resize: bool) -> np.ndarray:
    """Scale an image of bytes to fit, or raise the error that says why not."""
    size = card.input_shape[:-1]
    differ = f"{name} has {_pixels(image.shape[:-1])}; the model takes {_pixels(size)}"
    if len(size) != 2:
        raise DataError(f"{differ}. Volumes are not resized.")
    if not resize:
        raise DataError(f"{differ}. To scale it to fit, add --resize.")
    if image.dtype != np.uint8:
        raise DataError(
            f"{differ}. Only bytes are resized: store "
            "np.rint(255 * images).astype(np.uint8)."
        )
    return fit_into(image, (size[0], size[1]))


def _pixels(size: Sequence[int]) -> str:
    return f"{'x'.join(map(str, size))} {'pixels' if len(size) == 2 else 'voxels'}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _fail(error: DataError) -> NoReturn:
    raise error


# finding


def _inputs_of(path: Path, card: Card, limit: float) -> list[Input]:
    """The images of one path."""
    if os.path.isdir(path):
        return [_picture(file, card) for file in _pictures_in(path)]
    if path.suffix.lower() == ".npz" and os.path.isfile(path):
        return _arrays(path, card, limit)
    return [_picture(path, card)]


def _pictures_in(folder: Path) -> list[Path]:
    """The image files of a folder, sorted."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error.strerror}).") from error
    files = [
        folder / name
        for name in names
        if name.lower().endswith(IMAGE_SUFFIXES)
        and not name.startswith(".")
        and os.path.isfile(folder / name)
    ]
    if not files:
        raise DataError(
            f"{folder} holds no images ({', '.join(IMAGE_SUFFIXES)}); folders in it "
            "are not searched."
        )
    return files


def _picture(path: Path, card: Card) -> Input:
    channels = card.input_shape[-1]
    if len(card.input_shape) == 3 and channels in (1, 3):
        return Input(str(path), partial(read_picture, path, channels))
    takes = "volumes" if len(card.input_shape) > 3 else f"images of {channels} channels"
    error = DataError(
        f"{path}: the model {card.model} takes {takes}, which image files cannot hold. "
        f"Name an .npz file with an array {('N', *card.input_shape)}."
    )
    return Input(str(path), partial(_fail, error))


# arrays


def _arrays(path: Path, card: Card, limit: float) -> list[Input]:
    """The images of an .npz file."""
    key, x = load_images(path, limit)
    images = _with_all_axes(x, card.input_shape, f"{path}: {key}")
    is_finite = _replace_nonfinite(images)
    images = _checked(images, card, f"{path}: {key}")
    found = []
    for index, image in enumerate(images):
        name = f"{path}[{index}]"
        if not is_finite[index]:
            error = DataError(f"{name} holds NaN or infinity.")
            found.append(Input(name, partial(_fail, error)))
        else:
            found.append(Input(name, partial(_returned, image)))
    return found


def _returned(image: np.ndarray) -> np.ndarray:
    return image


def _with_all_axes(x: np.ndarray, shape: Sequence[int], name: str) -> np.ndarray:
    """The images as ``(N, *size, C)``: an axis of 1 is added for one image or channel.

    ``shape`` is that of the model's images, ``(*size, C)``.
    """
    ndim = len(shape)
    if x.ndim == ndim + 1:
        return x
    if x.ndim == ndim and x.shape[-1] == shape[-1]:
        return x[None]
    if x.ndim == ndim and shape[-1] == 1:
        return x[..., None]
    if x.ndim == ndim - 1 and shape[-1] == 1:
        return x[None, ..., None]
    raise DataError(f"{name} must be {('N', *shape)}; got {x.shape}.")


def _replace_nonfinite(images: np.ndarray) -> np.ndarray:
    """Set NaN and infinite values to zero; return which images had none, ``(N,)``."""
    if images.dtype.kind != "f":
        return np.ones(len(images), bool)
    is_finite = np.array([np.isfinite(image).all() for image in images], bool)
    images[~is_finite] = 0
    return is_finite


def _checked(images: np.ndarray, card: Card, name: str) -> np.ndarray:
    """Bytes, or floats in the model's range; else raise DataError."""
    if images.dtype.kind != "f" or 0 in images.shape:
        # the checks are those of 2-D images: depth and height become one axis
        flat = (len(images), prod(images.shape[1:-2]), *images.shape[-2:])
        return as_images(images.reshape(flat), name).reshape(images.shape)
    low, high = card.input_range
    if images.min() < low or images.max() > high:
        raise DataError(
            f"{name} must be bytes (uint8), or floats in [{low:g}, {high:g}]; got "
            f"{images.dtype} from {images.min():g} to {images.max():g}. Bytes are "
            "divided by 255."
        )
    return images.astype(np.float32, copy=False)

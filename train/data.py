"""Sources of images and labels: embedded digits, MNIST, the user's .npz files."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from .idx import REMEDIES, DataError, read_mnist

DIGITS_TRAIN = 1297  # of 1,797; the remaining 500 are the test set


class Split(NamedTuple):
    """A part of a dataset."""

    images: np.ndarray
    """``(N, H, W, C)``, bytes or floats in [0, 1]."""
    labels: np.ndarray
    """``(N,)``, int32, from 0."""


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


DIGITS = tuple("0123456789")


def load(dataset: str, data_dir: Path | None = None) -> Dataset:
    """Load the data that ``--dataset`` and ``--data-dir`` name.

    Args:
      dataset: "digits", "mnist", or the path of an .npz file.
      data_dir: the folder with MNIST's four files. If None, MNIST is downloaded.

    Raises:
      DataError: the data is missing or corrupt.
    """
    if data_dir is not None and dataset != "mnist":
        raise DataError(f"--data-dir goes with --dataset mnist, not with {dataset!r}.")
    if dataset == "digits":
        return load_digits()
    if dataset == "mnist":
        return load_mnist(data_dir)
    if dataset.endswith(".npz"):
        return load_npz(Path(dataset))
    raise DataError(
        f"--dataset must be digits, mnist or the path of an .npz file; got {dataset!r}."
    )


def load_digits() -> Dataset:
    """Load scikit-learn's scanned digits, resized to 20x20 within 28x28 as in MNIST."""
    from sklearn import datasets

    pixels, classes = datasets.load_digits(return_X_y=True)
    images = np.asarray(pixels, np.float32).reshape(-1, 8, 8) / 16
    images = np.asarray(jax.image.resize(images, (len(images), 20, 20), "cubic"))
    images = np.pad(images, ((0, 0), (4, 4), (4, 4)))[..., None]
    images = np.rint(255 * images.clip(0, 1)).astype(np.uint8)
    labels = np.asarray(classes, np.int32)
    train, test = slice(None, DIGITS_TRAIN), slice(DIGITS_TRAIN, None)
    return Dataset(
        "digits",
        Split(images[train], labels[train]),
        Split(images[test], labels[test]),
        DIGITS,
    )


def load_mnist(data_dir: Path | None = None) -> Dataset:
    """Load MNIST from the files in a folder, or download it."""
    if data_dir is not None:
        arrays = iter(read_mnist(data_dir).values())
        splits = {"train": (next(arrays), next(arrays)), "test": (*arrays,)}
    else:
        from .mnist import download  # imports tensorflow_datasets

        splits = download()
    train, test = (
        Split(images[..., None], labels.astype(np.int32))
        for images, labels in splits.values()
    )
    return Dataset("mnist", train, test, DIGITS)


def load_npz(path: Path) -> Dataset:
    """Load a file with the Keras names x_train, y_train, x_test and y_test."""
    names = ("x_train", "y_train", "x_test", "y_test")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            missing = [name for name in names if name not in archive]
            if missing:
                raise DataError(
                    f"{path} lacks {', '.join(missing)}; it holds "
                    f"{', '.join(archive.files) or 'nothing'}. {REMEDIES}"
                )
            x_train, y_train, x_test, y_test = (archive[name] for name in names)
    except FileNotFoundError:
        raise DataError(f"--dataset {path}: no such file. {REMEDIES}") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} is truncated, corrupted, or not an .npz file ({error}). {REMEDIES}"
        ) from error
    train = _images(x_train, f"{path}: x_train"), _labels(y_train, f"{path}: y_train")
    test = _images(x_test, f"{path}: x_test"), _labels(y_test, f"{path}: y_test")
    for split, (images, labels) in (("train", train), ("test", test)):
        if len(images) != len(labels):
            raise DataError(
                f"{path}: x_{split} holds {len(images)} images, y_{split} "
                f"{len(labels)} labels."
            )
    if train[0].shape[1:] != test[0].shape[1:]:
        raise DataError(
            f"{path}: the images of x_train have the shape {train[0].shape[1:]}, those "
            f"of x_test {test[0].shape[1:]}; the shapes must be equal."
        )
    num_classes = 1 + int(max(train[1].max(), test[1].max()))
    classes = tuple(map(str, range(num_classes)))
    return Dataset(path.stem, Split(*train), Split(*test), classes)


def _images(x: np.ndarray, name: str) -> np.ndarray:
    if x.ndim == 3:
        x = x[..., None]
    if x.ndim != 4 or 0 in x.shape:
        raise DataError(f"{name} must be (N, H, W) or (N, H, W, C); got {x.shape}.")
    if x.dtype == np.uint8:
        return x
    in_unit = x.dtype.kind == "f" and np.all((x >= 0) & (x <= 1))
    if not in_unit:
        raise DataError(
            f"{name} must be bytes (uint8) or floats in [0, 1]; got {x.dtype} from "
            f"{x.min()} to {x.max()}. The transformer samples zeros outside the image; "
            "with another normalization these would look like a bright frame."
        )
    return x.astype(np.float32)


def _labels(y: np.ndarray, name: str) -> np.ndarray:
    y = y.reshape(-1) if y.ndim == 2 and y.shape[1] == 1 else y
    if y.ndim != 1 or y.dtype.kind not in "iu" or y.min(initial=0) < 0:
        raise DataError(
            f"{name} must be classes (N,), integers from 0; got {y.dtype} {y.shape}."
        )
    return y.astype(np.int32)


def sha256_of(data: Dataset) -> str:
    """A digest over all images, labels and class names."""
    digest = hashlib.sha256(json.dumps(data.classes).encode())
    for split in (data.train, data.test, data.validation):
        for array in split or ():
            digest.update(f"{array.dtype.name} {array.shape} ".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()

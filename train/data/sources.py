"""Sources of images and labels: digits, MNIST, SVHN, birds, the user's files."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from ..configs import DATA_LIMIT, Source
from ..errors import DataError
from .arrays import DIGITS, Dataset, Split
from .cub import load_cub
from .idx import read_mnist
from .image_folders import load_folder
from .npz import load_npz
from .svhn import load_svhn
from .svhn_cropped import load_svhn_cropped

DIGITS_TRAIN = 1297  # of 1,797; the remaining 500 are the test set
NAMED = ("digits", "mnist", "svhn", "svhn_cropped", "cub")


def load(
    dataset: str,
    data_dir: Path | None = None,
    *,
    keys: Sequence[str] = (),
    image_size: tuple[int, int] | None = None,
    limit: float = DATA_LIMIT,
    cache_dir: Path | None = None,
    skip_bad: bool = False,
) -> Dataset:
    """Load the data that the options of the command line name.

    Args:
      dataset: "digits", "mnist", "svhn", "svhn_cropped", "cub", the path of an .npz
        file, or of a folder with images in train/CLASS/ and test/CLASS/.
      data_dir: the folder with the files of mnist, svhn, svhn_cropped or cub. If None,
        MNIST is downloaded.
      keys: the names in an .npz file, as "x_train=images".
      image_size: height and width of the images of a folder, of svhn or of cub.
      limit: GB that the data may need.
      cache_dir: the folder for svhn's converted images; by default data_dir.
      skip_bad: leave out images that cannot be used, with a warning.

    Raises:
      DataError: the data is missing or corrupt, or needs more than the limit.
    """
    kind = kind_of(dataset)
    from_files, scaled = NAMED[1:], ("folder", "svhn", "cub")
    for option, value, goes_with, what in (
        ("--data-dir", data_dir, from_files, "mnist, svhn, svhn_cropped and cub"),
        ("--keys", keys, ("npz",), "FILE.npz"),
        ("--image-size", image_size, scaled, "svhn, cub and folders of images"),
        ("--cache-dir", cache_dir, ("svhn",), "svhn"),
        ("--skip-bad", skip_bad, scaled, "svhn, cub and folders of images"),
    ):
        if value and kind not in goes_with:
            raise DataError(
                f"{option} goes with --dataset {what}, not with {dataset!r}."
            )
    try:
        if kind == "digits":
            return load_digits()
        if kind == "mnist":
            return load_mnist(data_dir, limit)
        if kind == "svhn_cropped":
            return load_svhn_cropped(data_dir, limit)
        if kind == "svhn":
            return load_svhn(data_dir, image_size, cache=cache_dir, skip_bad=skip_bad)
        if kind == "cub":
            return load_cub(data_dir, image_size, limit, skip_bad)
        if kind == "npz":
            return load_npz(Path(dataset), keys, limit)
        return load_folder(Path(dataset), image_size, limit, skip_bad)
    except MemoryError as error:
        raise DataError(f"the memory does not suffice for {dataset}.") from error


def load_source(source: Source) -> Dataset:
    """Load the data of a configuration; see :func:`load`."""
    return load(
        source.dataset,
        source.data_dir,
        keys=source.keys,
        image_size=source.image_size,
        limit=source.data_limit,
        cache_dir=source.cache_dir,
        skip_bad=source.skip_bad,
    )


def kind_of(dataset: str) -> str:
    """The kind of source that ``--dataset`` names: one of NAMED, npz or folder."""
    if dataset in NAMED:
        return dataset
    if dataset.lower().endswith(".npz"):
        return "npz"
    try:
        if stat.S_ISDIR(os.stat(dataset).st_mode):
            return "folder"
        why = "a file of another kind"
    except OSError as error:
        why = error.strerror
    raise DataError(
        f"--dataset must be {', '.join(NAMED)}, or the path of an .npz file or of a "
        f"folder of images; got {dataset!r} ({why})."
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


def load_mnist(data_dir: Path | None = None, limit: float = DATA_LIMIT) -> Dataset:
    """Load MNIST from the files in a folder, or download it.

    ``limit`` is the number of GB that a file of the folder may hold.
    """
    if data_dir is not None:
        arrays = iter(read_mnist(data_dir, limit).values())
        splits = {"train": (next(arrays), next(arrays)), "test": (*arrays,)}
    else:
        from .mnist import download  # imports tensorflow_datasets

        splits = download()
    train, test = (
        Split(images[..., None], labels.astype(np.int32))
        for images, labels in splits.values()
    )
    return Dataset("mnist", train, test, DIGITS)


def sha256_of(data: Dataset) -> str:
    """A digest of a dataset: of all images, labels and class names, in their order.

    Equal arrays in another file, or from another source, have the same digest.
    """
    digest = hashlib.sha256(json.dumps(data.classes).encode())
    for name, part in (
        ("train", data.train),
        ("test", data.test),
        ("validation", data.validation),
    ):
        for array in part or ():
            digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
            # a view, not a copy
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()

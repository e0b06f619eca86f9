"""The part of the training images that is held out, and by which states are chosen."""

from __future__ import annotations

import numpy as np

from ..errors import ConfigError
from .sources import Dataset, Split

SEED = 1506


def with_validation(data: Dataset, share: float) -> Dataset:
    """Hold out a part of the training images for validation.

    The part is the same in every run. A dataset with a validation part keeps that one.
    Of images that are mapped from the disk it is the first ones, which are not copied.

    Args:
      data: the dataset.
      share: the part's share of the training images. If 0 there is no validation part;
        the dataset's own joins the training images.

    Raises:
      ConfigError: the part would have no image, or leave none to train on.
    """
    if share == 0:
        return _without_validation(data)
    if data.validation is not None:
        return data
    n = len(data.train.labels)
    count = round(share * n)
    if not 0 < count < n:
        raise ConfigError(
            f"--validation {share:g} of {n} training images is {count} images: choose "
            "another share, or --validation 0 to train on all"
        )
    if isinstance(data.train.images, np.memmap):
        return data._replace(
            train=Split(*(x[count:] for x in data.train)),
            validation=Split(*(x[:count] for x in data.train)),
        )
    order = np.random.default_rng(SEED).permutation(n)
    held_out, rest = np.sort(order[:count]), np.sort(order[count:])
    return data._replace(
        train=Split(*(x[rest] for x in data.train)),
        validation=Split(*(x[held_out] for x in data.train)),
    )


def _without_validation(data: Dataset) -> Dataset:
    if data.validation is None:
        return data
    pairs = zip(data.train, data.validation, strict=True)
    joined = Split(*(np.concatenate(pair) for pair in pairs))
    return data._replace(train=joined, validation=None)

"""The part of the training images that is held out."""

import numpy as np
import pytest

from train.data import Dataset, Split
from train.data.validation import with_validation
from train.errors import ConfigError


def numbered(count, validation=None):
    """A dataset whose images hold their own numbers."""

    def split(first, n):
        numbers = np.arange(first, first + n, dtype=np.int32)
        return Split(numbers[:, None, None, None], numbers % 7)

    own = split(10_000, validation) if validation else None
    return Dataset("numbers", split(0, count), split(20_000, 5), tuple("abcdefg"), own)


def numbers(split):
    return split.images[:, 0, 0, 0].tolist()


def test_a_twelfth_is_held_out_of_mnists_size():
    data = with_validation(numbered(60_000), 1 / 12)
    assert len(data.validation.labels) == 5_000
    assert len(data.train.labels) == 55_000
    together = numbers(data.train) + numbers(data.validation)
    assert sorted(together) == [*range(60_000)]
    assert numbers(data.train) == sorted(numbers(data.train))
    for split in (data.train, data.validation):  # each label stays with its image
        np.testing.assert_array_equal(split.labels, np.array(numbers(split)) % 7)
    # not the last images: users' files are often sorted by class
    assert 2_000 < np.median(numbers(data.validation)) / 60_000 * 5_000 < 3_000
    assert numbers(data.test) == numbers(numbered(1).test)


def test_the_part_is_the_same_in_every_run():
    a, b = (with_validation(numbered(100), 0.25).validation for _ in range(2))
    assert numbers(a) == numbers(b)


def test_a_validation_part_of_its_own_is_kept():
    data = numbered(100, validation=30)
    assert with_validation(data, 0.25) is data


def test_without_validation_all_images_are_trained_on():
    data = with_validation(numbered(100, validation=30), 0)
    assert data.validation is None
    assert numbers(data.train) == [*range(100), *range(10_000, 10_030)]
    assert data.train.labels.shape == (130,)
    plain = numbered(100)
    assert with_validation(plain, 0) is plain


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_a_part_must_leave_images_on_both_sides(share):
    with pytest.raises(ConfigError, match=r"of 10 training images is (0|10) images"):
        with_validation(numbered(10), share)

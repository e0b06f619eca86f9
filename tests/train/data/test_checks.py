"""Checks of a user's arrays: what is accepted, and what each error advises."""

import numpy as np
import pytest

from train.data.checks import (
    as_images,
    as_labels,
    as_split,
    check_trained,
    number_of_classes,
)
from train.errors import DataError

# images


@pytest.mark.parametrize(
    "x",
    [
        np.full((2, 3, 4), 7, np.uint8),
        np.ones((2, 3, 4, 3), np.uint8) * 255,
        np.zeros((2, 3, 4), np.uint8),
        np.full((2, 1, 4), 7, np.uint8),
        np.full((2, 3, 1, 4), 7, np.uint8),  # height 3, 4 channels
        np.full((2, 9, 9, 13), 7, np.uint8),
    ],
)
def test_bytes_are_accepted_unchanged(x):
    images = as_images(x, "x")
    assert images.ndim == 4
    assert images.dtype == np.uint8
    assert np.shares_memory(images, x)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", "g"])
def test_floats_become_float32(dtype, rng):
    x = rng.uniform(size=(2, 3, 4)).astype(dtype)
    x[0, 0, :2] = 0, 1
    images = as_images(x, "x")
    assert images.dtype == np.float32
    assert images.dtype.isnative
    np.testing.assert_array_equal(images[..., 0], x.astype(float).astype(np.float32))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((5, 3, 32, 32), r"looks like \(N, C, H, W\): store x.transpose\(0, 2, 3, 1\)"),
        ((5, 1, 28, 28), r"store x.transpose\(0, 2, 3, 1\)"),
        ((5, 4, 8, 5), r"store x.transpose\(0, 2, 3, 1\)"),
        ((5, 784), r"flattened images of 28x28 .* store x.reshape\(-1, 28, 28\)"),
        ((5, 35), r"must be .* got \(5, 35\).*x.reshape\(-1, height, width, channels"),
        ((5,), r"must be \(N, H, W\) or \(N, H, W, C\); got \(5,\)"),
        ((), r"must be \(N, H, W\)"),
        ((5, 2, 2, 2, 2), r"must be \(N, H, W\)"),
        ((0, 3, 3), r"holds no images: its shape is \(0, 3, 3\)"),
        ((5, 0, 3), "holds images without pixels"),
        ((5, 3, 3, 0), "holds images without pixels"),
    ],
)
def test_shapes_that_are_no_images(shape, message):
    with pytest.raises(DataError, match=message):
        as_images(np.zeros(shape, np.uint8), "x")


def test_the_advice_on_shapes_works(rng):
    x = rng.integers(0, 256, size=(5, 3, 9, 8)).astype(np.uint8)
    images = as_images(x.transpose(0, 2, 3, 1), "x")
    np.testing.assert_array_equal(images[2, :, :, 1], x[2, 1])
    assert as_images(np.zeros((5, 784)).reshape(-1, 28, 28), "x").shape[1:3] == (28, 28)


SHAPE = (3, 2, 2)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.full(SHAPE, 255.0), r"float64 from 255.0 .*x / 255, or x.astype\(np.uint8"),
        (np.full(SHAPE, 1.001, "f4"), "look like bytes"),
        (np.full(SHAPE, -1.0), r"Store \(x \+ 1\) / 2"),
        (np.full(SHAPE, -1.5), "from -1.5 to -1.5. The transformer samples zeros"),
        (np.full(SHAPE, 300.0), "The transformer samples zeros"),
        (np.full(SHAPE, 255), r"int64 from 255 to 255. Store x.astype\(np.uint8\)"),
        (np.full(SHAPE, 7, np.int8), r"got int8 .* Store x.astype\(np.uint8\)"),
        (np.full(SHAPE, 9, np.uint16), r"Store x.astype\(np.uint8\)"),
        (np.full(SHAPE, 1), r"Store \(255 \* x\).astype\(np.uint8\)"),
        (np.full(SHAPE, 1, np.uint8), r"almost black: store 255 \* x"),
        (np.full(SHAPE, 999, np.uint16), "floats in .0, 1., for instance x / 65535"),
        (np.full(SHAPE, -3), "from -3 to -3. Scale them to floats"),
        (np.full(SHAPE, True), r"got bool .* Store 255 \* x.astype\(np.uint8\)"),
        (np.full(SHAPE, 1j), "got complex128"),
        (np.full(SHAPE, "a"), "got <U1"),
    ],
)
def test_values_that_are_no_pixels(x, message):
    with pytest.raises(DataError, match=r"x must be bytes \(uint8\) or floats") as info:
        as_images(x, "x")
    with pytest.raises(DataError, match=message):
        raise info.value


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_named(dtype, value):
    x = np.zeros(SHAPE, dtype)
    x[1, 0, 0] = x[1, 1, 1] = value
    with pytest.raises(DataError, match=r"x must be finite; 1 of its 3 images"):
        as_images(x, "x")


# labels


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i4", "i8", "u8", ">i8"])
@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_integer_labels_are_accepted(dtype, shape):
    labels = as_labels(np.array([0, 3, 1, 100], dtype).reshape(shape), "y")
    assert labels.tolist() == [0, 3, 1, 100]
    assert labels.dtype == np.int32
    assert labels.dtype.isnative


def test_the_largest_label():
    assert as_labels(np.array([2**31 - 1]), "y").tolist() == [2**31 - 1]


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.zeros(3), r"y must be classes .* got float64 .*store y.astype\(np.int32\)"),
        (np.zeros(3, bool), r"got bool .*store y.astype\(np.int32\)"),
        (np.eye(3, dtype=int), r"got int64 \(3, 3\).* store y.argmax\(axis=1\)"),
        (np.eye(3), r"store y.argmax\(axis=1\)"),
        (np.array(["a", "b"]), r"These are names: .*np.unique.* store `classes`"),
        (np.zeros((2, 2, 2), int), "Each image has one label"),
        (np.array(3), "Each image has one label"),
        (np.array([], int), "holds no labels"),
        (np.array([0, -1]), "got int64 from -1 to 0.*np.unique"),
        (np.array([0, 2**31]), "got int64 from 0 to 2147483648.*np.unique"),
        (np.array([0, 2**32 + 1]), "got int64 from 0 to 4294967297"),
        (np.array([0, 2**64 - 1], np.uint64), "got uint64 from 0 to 18446744073709551"),
    ],
)
def test_labels_that_are_no_classes(y, message):
    with pytest.raises(DataError, match=message):
        as_labels(y, "y")


def test_labels_between_may_be_missing():
    assert number_of_classes(np.array([0, 4, 4, 2, 0]), "y") == 5
    assert number_of_classes(np.array([1, 0]), "y") == 2


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([3, 3, 3], "holds only the label 3: a classifier needs at least two"),
        ([0], "holds only the label 0"),
        ([1, 2, 10], "run from 1 to 10; they must count from 0: subtract 1"),
        (
            [5, 7, 7],
            "run from 5 to 7; they must count from 0: number them with",
        ),
        ([0, 1, 3], "the label 3 would mean 4 classes for 3 training images"),
        ([0, 2**31 - 1], "would mean 2,147,483,648 classes for 2 .* np.unique"),
    ],
)
def test_training_labels_with_something_wrong(labels, message):
    with pytest.raises(DataError, match=message):
        number_of_classes(np.array(labels, np.int32), "y")


def test_the_advice_on_labels_works():
    """As in the message: both parts keep the same classes."""
    y_train, y_test = np.array([5, 9, 7, 5]), np.array([9, 5])
    classes, y_train = np.unique(y_train, return_inverse=True)
    y_test = np.searchsorted(classes, y_test)
    assert number_of_classes(as_labels(y_train, "y"), "y") == 3
    assert classes[y_test].tolist() == [9, 5]
    check_trained(y_test, y_train, "y_test")


def test_labels_that_are_not_trained():
    train = np.array([0, 1, 3], np.int32)
    check_trained(np.array([3, 3, 0]), train, "y_test")
    with pytest.raises(
        DataError,
        match=r"y_test holds labels without .* images: 2, 7. .*3 images",
    ):
        check_trained(np.array([7, 0, 2, 2]), train, "y_test")
    with pytest.raises(DataError, match=r": 4, 5, 6, 7, 8, \.\.\.\. Remove"):
        check_trained(np.arange(4, 20), train, "y_test")


# images and labels


def test_a_label_for_each_image():
    x, y = np.full((5, 4, 3), 9, np.uint8), np.zeros(5, int)
    assert as_split(x, y, "x", "y").images.shape == (5, 4, 3, 1)
    with pytest.raises(DataError, match=r"^x holds 5 images, y 4 labels\.$"):
        as_split(x, y[:4], "x", "y")
    with pytest.raises(DataError, match=r"along its last axis: store np.moveaxis\(x"):
        as_split(np.moveaxis(x, 0, -1), y, "x", "y")

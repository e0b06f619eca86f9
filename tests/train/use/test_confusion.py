"""Errors by class, beside loops."""

import numpy as np
import pytest

from train.use.confusion import by_class, confusion_figure, counts_of

NAMES = ("ant", "bee", "cat", "dog")


@pytest.fixture
def labels(rng):
    """No label is 3, and nothing is predicted as 0."""
    return rng.integers(0, 3, 50)


@pytest.fixture
def predictions(rng):
    return rng.integers(1, 4, 50)


def looped(labels, predictions, count):
    counts = np.zeros((count, count), int)
    for label, prediction in zip(labels, predictions, strict=True):
        counts[label, prediction] += 1
    return counts


def test_the_counts_are_those_of_a_loop(labels, predictions):
    expected = looped(labels, predictions, 4)
    np.testing.assert_array_equal(counts_of(labels, predictions, 4), expected)


def test_the_numbers_of_each_class(labels, predictions):
    counts = looped(labels, predictions, 4)
    for index, of in enumerate(by_class(labels, predictions, NAMES)):
        row, column = counts[index].sum(), counts[:, index].sum()
        right = counts[index, index]
        assert (of.name, of.images) == (NAMES[index], row)
        if row:
            assert of.recall == pytest.approx(100 * right / row, abs=1e-4)
            assert of.error == pytest.approx(100 - 100 * right / row, abs=1e-4)
        else:
            assert of.recall is of.error is None
        if column:
            assert of.precision == pytest.approx(100 * right / column, abs=1e-4)
        else:
            assert of.precision is None
        wrong = [0 if i == index else n for i, n in enumerate(counts[index])]
        assert of.confused == max(wrong)
        if max(wrong):
            assert wrong[NAMES.index(of.confused_with)] == max(wrong)
        else:
            assert of.confused_with is None


def test_without_errors():
    (first, *_) = by_class(np.arange(4), np.arange(4), NAMES)
    assert (first.error, first.precision, first.confused_with) == (0, 100, None)


@pytest.mark.parametrize(("count", "texts"), [(4, True), (20, True), (21, False)])
def test_the_counts_are_written_into_few_cells(rng, count, texts):
    counts = rng.integers(1, 9, (count, count))
    names = [f"class {i}" for i in range(count)]
    axes = confusion_figure(counts, names, "title").axes[0]
    written = [text.get_text() for text in axes.texts]
    assert written == ([f"{n}" for n in counts.flat] if texts else [])
    assert [tick.get_text() for tick in axes.get_yticklabels()] == names


def test_the_colors_are_shares_of_the_rows():
    counts = np.array([[3, 1], [0, 0]])
    axes = confusion_figure(counts, ["a", "b"], "").axes[0]
    np.testing.assert_array_equal(axes.images[0].get_array(), [[75, 25], [0, 0]])
    assert axes.get_ylabel() == "true class"

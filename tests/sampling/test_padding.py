"""Padding rules along one axis, against `numpy.pad`."""

import numpy as np
import pytest

from stn_jax.sampling.padding import FAR, RULES, as_modes

PAD = 20  # several times the longest axis


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize(
    ("padding_mode", "align_corners", "numpy_mode"),
    [
        ("border", False, "edge"),
        ("border", True, "edge"),
        ("reflection", False, "symmetric"),
        ("reflection", True, "reflect"),
        ("wrap", False, "wrap"),
        ("wrap", True, "wrap"),
    ],
)
def test_rules_extend_an_axis_as_numpy_pads_it(
    n, padding_mode, align_corners, numpy_mode
):
    index, inside = RULES[padding_mode](np.arange(-PAD, n + PAD), n, align_corners)
    np.testing.assert_array_equal(index, np.pad(np.arange(n), PAD, mode=numpy_mode))
    assert inside.all()


@pytest.mark.parametrize("padding_mode", ["zeros", "constant"])
def test_constant_rules_know_the_inside(padding_mode):
    index, inside = RULES[padding_mode](np.arange(-3, 8), 5, False)
    np.testing.assert_array_equal(inside, np.pad(np.ones(5, bool), 3))
    np.testing.assert_array_equal(np.asarray(index)[np.asarray(inside)], np.arange(5))


@pytest.mark.parametrize("padding_mode", ["reflection", "wrap"])
def test_far_away_there_is_nothing_to_repeat(padding_mode):
    far = np.array([-(2**30), -FAR - 1, -FAR, FAR, FAR + 1, 2**30], np.int32)
    index, inside = RULES[padding_mode](far, 7, False)
    np.testing.assert_array_equal(inside, [False, False, True, True, False, False])
    assert ((index >= 0) & (index < 7)).all()


def test_one_mode_for_all_axes_or_one_for_each():
    assert as_modes("wrap", 3) == ("wrap", "wrap", "wrap")
    assert as_modes(["zeros", "wrap"], 2) == ("zeros", "wrap")


@pytest.mark.parametrize(
    "padding_mode",
    ["Zeros", None, 3, ["zeros"], ["zeros", "wrap", "wrap"], ["wrap", 1]],
)
def test_unknown_modes_are_refused_with_the_known_ones(padding_mode):
    with pytest.raises(
        ValueError, match="'border', 'reflection', 'wrap', or 2 of them"
    ):
        as_modes(padding_mode, 2)


def test_zeros_and_constant_do_not_mix():
    with pytest.raises(ValueError, match="not both"):
        as_modes(("zeros", "constant"), 2)

"""`Plan` and its axes: what a call of the sampler decides before it runs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stn_jax import Sampler
from stn_jax.sampling.plan import LIMIT, Axis, Plan
from stn_jax.sampling.sampler import prepare


def plan_of(shape=(4, 5, 2), **options):
    image, dtype = jnp.ones(shape), jnp.dtype("float32")
    _, _, plan = prepare(Sampler(**options), image, dtype, len(shape) - 1)
    return plan


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        ({}, ""),
        ({"padding_mode": "constant"}, ""),
        ({"padding_mode": "constant", "fill_value": 0.5}, "filled"),
        ({"padding_mode": "wrap", "fill_value": [0.5, 0.0]}, "filled"),
        ({"padding_mode": "wrap", "fill_value": jnp.zeros(2)}, ""),
        ({"padding_mode": "border", "outside": "fill", "fill_value": 0.5}, "hard"),
        ({"outside": "fill", "fill_value": 0.5}, "hard"),
        ({"padding_mode": "wrap", "outside": "fill", "fill_value": 1}, "filled hard"),
        ({"method": "bspline3"}, "residual"),
        (
            {"method": "bspline3", "padding_mode": "constant", "fill_value": 0.5},
            "filled residual",
        ),
    ],
)
def test_flags(options, flags):
    plan = plan_of(**options)
    found = {n for n in ("filled", "residual", "hard") if getattr(plan, f"is_{n}")}
    assert found == set(flags.split())


def test_plans_are_equal_and_hashable_by_value():
    a, b = (
        plan_of(padding_mode=["border", "wrap"]),
        plan_of(padding_mode=("border", "wrap")),
    )
    assert isinstance(a, Plan)
    assert a == b
    assert hash(a) == hash(b)
    assert a != plan_of()
    assert a != plan_of((5, 4, 2), padding_mode=["border", "wrap"])


def test_the_axes_are_in_image_order():
    axes = plan_of((2, 3, 4, 1), padding_mode=["zeros", "border", "wrap"]).axes
    assert [axis.n for axis in axes] == [2, 3, 4]
    assert [axis.padding_mode for axis in axes] == ["zeros", "border", "wrap"]
    plan = plan_of((7, 3, 1), coordinates="pixel")
    y, x = plan.taps(jnp.array([2.0, 5.0]))  # (x, y)
    assert [int(tap.pixel) for tap in y] == [5, 6]
    assert [int(tap.pixel) for tap in x] == [2, 2]  # the second is outside: clipped
    assert [bool(tap.exists) for tap in x] == [True, False]


def test_taps_of_a_point_between_pixels():
    axis = Axis(4, "reflection", 0, False, "pixel")
    first, second = axis.taps("bilinear", jnp.array([1.25, -0.75]))
    np.testing.assert_array_equal(first.pixel, [1, 0])
    np.testing.assert_array_equal(second.pixel, [2, 0])
    np.testing.assert_allclose(first.weight, [0.75, 0.75])
    np.testing.assert_allclose(second.weight, [0.25, 0.25])


@pytest.mark.parametrize("far", [jnp.inf, -jnp.inf, 1e30, -1e30])
def test_far_coordinates_stay_within_int32_and_have_no_gradient(far):
    axis = Axis(4, "zeros", 0, False, "pixel")
    value, slope = jax.value_and_grad(axis.to_pixels)(jnp.float32(far))
    assert abs(int(value)) == LIMIT < 2**31
    assert slope == 0

"""`Sampler`: equal to `sample`, validated when it is made, and a pytree."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stn_jax import Kernel, Sampler, sample

OPTIONS = [
    {"method": "nearest"},
    {"method": "bicubic"},
    {"method": Kernel(1, lambda d: d * d)},
    {"padding_mode": "wrap"},
    {"padding_mode": ["border", "wrap"]},
    {"padding_mode": "constant", "fill_value": 0.5},
    {"padding_mode": "constant", "fill_value": [0.5, -1.0]},
    {"align_corners": True},
    {"coordinates": "pixel"},
    {"outside": "fill", "fill_value": 0.5},
    {"method": "nearest", "implementation": "dense"},
]


@pytest.fixture
def inputs(rng):
    image = jnp.asarray(rng.normal(size=(4, 5, 2)), jnp.float32)
    return image, jnp.asarray(rng.uniform(-1.6, 1.6, size=(6, 7, 2)), jnp.float32)


@pytest.mark.parametrize("options", OPTIONS, ids=range(len(OPTIONS)))
def test_a_sampler_is_sample_with_its_options(inputs, options):
    found = Sampler(**options)(*inputs)
    chex.assert_trees_all_equal(found, sample(*inputs, **options))
    assert jnp.abs(found - Sampler()(*inputs)).max() > 0.01, "the option has no effect"


# validation


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "cubic"}, "method must be one of 'nearest', .*, or a Kernel; got"),
        ({"coordinates": "pixels"}, "coordinates must be one of 'normalized', 'pixel'"),
        ({"outside": None}, "outside must be one of 'blend', 'fill'; got None"),
        ({"implementation": "sparse"}, "implementation must be one of 'gather', 'den"),
        (
            {"padding_mode": "mirror"},
            "padding_mode must be one of 'zeros', .* 'mirror'",
        ),
        ({"padding_mode": ["wrap"]}, "or 2 of them"),
        ({"padding_mode": ["wrap"] * 4}, "or 2 of them"),
        ({"padding_mode": 3}, "padding_mode must be one of .* got 3"),
        ({"padding_mode": ("zeros", "constant")}, "not both"),
        ({"fill_value": 0.5}, r"'zeros' never shows fill_value=0\.5"),
        ({"fill_value": [0.0, 0.5]}, "'zeros' never shows fill_value="),
        ({"fill_value": np.ones(3), "padding_mode": "border"}, "'border' never shows"),
    ],
)
def test_options_are_checked_when_the_sampler_is_made(options, message):
    with pytest.raises(ValueError, match=message):
        Sampler(**options)


@pytest.mark.parametrize("value", ["red", None, object(), ["a", "b"], {"r": 1}])
def test_a_fill_value_is_a_number_or_numbers(value):
    with pytest.raises(TypeError, match="fill_value must be a number, or one for each"):
        Sampler(padding_mode="constant", fill_value=value)


def test_unknown_options_and_assignments_are_refused():
    with pytest.raises(TypeError, match="mode"):
        Sampler(mode="border")
    with pytest.raises(AttributeError):
        Sampler().method = "bicubic"


def test_sequences_become_tuples_and_arrays():
    sampler = Sampler(padding_mode=["border", "wrap"])
    assert sampler == Sampler(padding_mode=("border", "wrap"))
    assert hash(sampler) == hash(Sampler(padding_mode=("border", "wrap")))
    filled = Sampler(padding_mode="constant", fill_value=[1, 2.5])
    np.testing.assert_array_equal(filled.fill_value, [1, 2.5])
    assert Sampler(padding_mode=("wrap",) * 3)(
        jnp.ones((2, 3, 4, 1)), jnp.zeros((1, 1, 1, 3))
    ).item() == pytest.approx(1)


# the pytree


def filled(value):
    return Sampler(padding_mode="constant", fill_value=value)


def test_a_number_is_static_and_an_array_is_a_leaf():
    for number in (0, 0.5, True, 1j, np.float32(0.5)):
        assert jax.tree.leaves(filled(number)) == []
    for array in (np.ones(2), np.ones(()), jnp.ones(2), [0.5, 1.0]):
        (leaf,) = jax.tree.leaves(filled(array))
        np.testing.assert_array_equal(leaf, array)
    a, b = filled(jnp.ones(2)), filled(jnp.zeros(2))
    assert jax.tree.structure(a) == jax.tree.structure(b)
    assert jax.tree.structure(filled(1.0)) != jax.tree.structure(filled(2.0))


def test_unflattening_does_not_validate():
    """JAX unflattens with placeholders that a sampler would refuse as options."""
    sampler = Sampler(method="bicubic", outside="fill", fill_value=jnp.ones(2))
    leaves, structure = jax.tree.flatten(sampler)
    for leaf in (object(), None, "a name", jax.ShapeDtypeStruct((2,), float)):
        other = jax.tree.unflatten(structure, [leaf])
        assert other.fill_value is leaf
        assert (other.method, other.outside) == ("bicubic", "fill")
    assert isinstance(jax.tree.map(lambda _: object(), sampler), Sampler)
    again = jax.tree.unflatten(structure, leaves)
    assert jax.tree.structure(again) == structure


def test_samplers_are_mapped_over_their_fill_values(inputs):
    image, grid = inputs
    fills = jnp.arange(6.0).reshape(3, 2)
    out = jax.vmap(lambda s: s(image, grid), in_axes=0)(filled(fills))
    assert out.shape == (3, 6, 7, 2)
    for fill, one in zip(fills, out, strict=True):
        chex.assert_trees_all_close(one, filled(fill)(image, grid), atol=1e-6)
    same = jax.vmap(lambda s, g: s(image, g), in_axes=(None, 0))(
        Sampler(), grid[:, None]
    )
    chex.assert_trees_all_close(same[:, 0], Sampler()(image, grid), atol=1e-6)


def test_the_gradient_of_a_fill_value_counts_the_points_outside():
    image = jnp.ones((3, 3, 2))
    grid = jnp.zeros((4, 5, 2)).at[:3, 1].set(9.0)
    slope = jax.jit(jax.grad(lambda s: s(image, grid).sum()))(filled(jnp.zeros(2)))
    assert isinstance(slope, Sampler)
    np.testing.assert_allclose(slope.fill_value, [3, 3])


def test_a_sampler_is_hashable_unless_its_fill_value_is_an_array(inputs):
    assert hash(filled(0.5)) == hash(filled(0.5))
    assert {Sampler(), Sampler(), filled(0.5)} == {Sampler(), filled(0.5)}
    run = jax.jit(lambda s, *arrays: s(*arrays), static_argnums=0)
    chex.assert_trees_all_close(
        run(filled(0.5), *inputs), filled(0.5)(*inputs), atol=1e-6
    )
    with pytest.raises(TypeError, match="unhashable"):
        hash(filled(np.ones(2)))


def test_equal_samplers_are_traced_once(inputs):
    def run(sampler, *arrays):
        return sampler(*arrays)

    run = jax.jit(chex.assert_max_traces(run, n=2))
    for fill in (0.5, 0.5, jnp.ones(2), jnp.zeros(2)):  # a number; arrays
        expected = filled(fill)(*inputs)
        chex.assert_trees_all_close(run(filled(fill), *inputs), expected, atol=1e-6)


def test_a_zero_is_known_to_be_zero_under_jit(inputs):
    """Then the program computes no share of the fill value."""

    def is_filled(sampler):
        program = str(jax.make_jaxpr(lambda s: s(*inputs))(sampler))
        assert "is_filled=" in program
        return "is_filled=True" in program

    assert not is_filled(Sampler(padding_mode="reflection"))
    assert is_filled(filled(0.5))
    assert is_filled(filled(jnp.zeros(())))


def test_traced_fill_values_in_a_sequence(inputs):
    @jax.jit
    def run(value):
        return filled([value, 0.5])(*inputs)

    expected = filled([2.0, 0.5])(*inputs)
    chex.assert_trees_all_close(run(jnp.float32(2)), expected, atol=1e-6)

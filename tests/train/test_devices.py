"""Trainings on several devices: each computes its share, and the numbers are the same.

These tests have two virtual devices; those of test_processes have up to eight.
"""

import dataclasses
from functools import partial
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P
from trainings import config, few, without_timings

from train.configs import Task
from train.data import Split, load
from train.devices import BATCH, BY_SEED, SEVERAL, mesh_for, on_each, put, to_host
from train.errors import ConfigError, OutOfMemory
from train.feed import Streamed
from train.loop import fit
from train.processes import watched
from train.share import Share
from train.specs import ModelSpec
from train.steps import batch_indices, in_parts
from train.storage.circumstances import device
from train.tasks import training_examples

CNN = ModelSpec("cnn")
several = pytest.mark.skipif(not SEVERAL, reason="jax 0.7 trains on one device")


@pytest.fixture(scope="module")
def digits():
    return few(load("digits"), 60)


@several
@pytest.mark.parametrize("task", get_args(Task))
def test_a_device_makes_its_share_of_a_batch(digits, task):
    """The images that the whole batch has at these places, with their labels."""
    images, labels = (jnp.asarray(x[:4]) for x in digits.train)
    key = jax.random.key(7)
    elastic = 1.0 if task == "r" else 0.0
    expected = training_examples(task, elastic, key, images, labels)
    mesh = mesh_for(config(batch_size=4))

    def own(images, labels):
        share = Share(jax.lax.axis_index(BATCH), 2)
        return training_examples(task, elastic, key, images, labels, share)

    of_all = on_each(mesh, own, (P(BATCH), P(BATCH)), (P(BATCH), P(BATCH)))
    found = jax.jit(of_all)(images, labels)
    np.testing.assert_allclose(found[0], expected[0], atol=2e-5)
    np.testing.assert_array_equal(found[1], expected[1])


def compared(first, second, tolerance=1e-4):
    """Rows of two trainings, but for times."""
    for one, other in zip(*map(without_timings, (first, second)), strict=True):
        assert one.keys() == other.keys()
        for key in one.keys() - {"model"}:
            np.testing.assert_allclose(one[key], other[key], tolerance, tolerance)


@several
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("cnn", {"task": "tc"}),
        ("st_cnn-affine", {"network": "tutorial", "task": "tutorial"}),
        ("st_cnn-affine", {"accumulate": 2}),
    ],
    ids=["clutter of the whole batch", "dropout", "accumulation"],
)
def test_two_devices_train_as_one_does(digits, name, changes):
    """Losses, errors, and the weights after the last step."""
    setup = config(batch_size=8, eval_every=4)
    setup = dataclasses.replace(setup, **changes)
    runs = [
        fit(dataclasses.replace(setup, **own), ModelSpec.parse(name), digits)[0]
        for own in ({"devices": 1, "accumulate": 1}, {"devices": 2})
    ]
    compared(*(run.rows for run in runs))
    weights = (jax.tree.leaves(run.last.params) for run in runs)
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-4)


def test_the_gradient_of_parts_is_that_of_the_batch(rng):
    x, y = (jnp.asarray(rng.normal(size=12), jnp.float32) for _ in range(2))
    loss = lambda weight, x, y: ((weight * x - y) ** 2).mean()  # noqa: E731
    gradient = partial(jax.value_and_grad(loss), 0.3)
    error = 0.3 * x - y
    expected = np.mean(error**2), np.mean(2 * error * x)
    for count in (1, 3):
        found = in_parts(gradient, count, x, y)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_parts_take_less_memory(rng):
    """A loss whose intermediate results are much larger than the batch."""
    batch = jnp.ones((64, 100))

    def loss(weights, x):
        return jnp.square(jnp.sin(x @ weights)).mean()

    def temporaries(count):
        gradient = lambda w, x: in_parts(partial(jax.grad(loss), w), count, x)  # noqa: E731
        program = jax.jit(gradient).lower(jnp.ones((100, 10_000)), batch).compile()
        return program.memory_analysis().temp_size_in_bytes

    gradient = 4 * 100 * 10_000
    assert temporaries(8) - gradient < (temporaries(1) - gradient) / 2 + gradient


@several
def test_seeds_are_spread_over_devices_that_a_batch_does_not_need(digits):
    setup = dataclasses.replace(config(batch_size=8, eval_every=4), steps=4)
    assert mesh_for(setup, seeds=2).devices.shape == (2, 1)
    assert mesh_for(setup, seeds=3).devices.shape == (1, 2)
    large = dataclasses.replace(setup, batch_size=64)
    assert mesh_for(large, seeds=2).devices.shape == (1, 2)
    together = fit(setup, CNN, digits, seeds=(0, 3))
    one = dataclasses.replace(setup, devices=1)
    for run, seed in zip(together, (0, 3), strict=True):
        (alone,) = fit(dataclasses.replace(one, seed=seed), CNN, digits)
        compared(run.rows, alone.rows)


@several
@pytest.mark.parametrize(("batch_size", "shape"), [(8, (2, 1)), (64, (1, 2))])
def test_each_device_reads_the_images_of_its_share(digits, batch_size, shape):
    pytest.importorskip("grain")
    setup = config(steps=3, batch_size=batch_size)
    mesh = mesh_for(setup, seeds=2)
    assert mesh.devices.shape == shape
    split = Split(np.arange(60).reshape(60, 1, 1, 1), np.arange(60, dtype=np.int32))
    feed = Streamed(setup, digits._replace(train=split), (0, 5), mesh, 1)
    seeds, share = 2 // shape[0], batch_size // shape[1]
    for step, work in enumerate(feed.until(1, 3), start=1):
        for part in work.data.images.addressable_shards:
            assert part.data.shape[0] == seeds * share
        gathered = on_each(
            mesh,
            lambda chosen, labels: labels[chosen[:, 0]],
            (P("seed", None, BATCH), P(("seed", BATCH))),
            P("seed", BATCH),
        )(work.chosen, work.data.labels)
        for row, seed in zip(np.asarray(gathered), (0, 5), strict=True):
            np.testing.assert_array_equal(
                row, batch_indices(60, batch_size, seed, step)
            )


@several
def test_what_is_placed_comes_back():
    mesh = mesh_for(config(batch_size=64), seeds=2)
    tree = {
        "a": np.arange(6.0).reshape(2, 3),
        "keys": jax.random.split(jax.random.key(1)),
    }
    placed = put(mesh, BY_SEED, tree)
    assert placed["a"].sharding.mesh == mesh
    np.testing.assert_array_equal(to_host(mesh, placed["a"]), tree["a"])
    assert (placed["keys"] == tree["keys"]).all()


@several
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch_size": 7}, "batch-size 7 cannot be .* among 2 devices: use 6 or 8 or"),
        ({"batch_size": 1}, "use 2 or fewer --devices"),
        ({"batch_size": 6, "accumulate": 2}, "2 devices with --accumulate 2: use 4 or"),
        ({"batch_size": 6, "accumulate": 4, "devices": 1}, "--accumulate 4: use 4 or"),
        ({"devices": 3}, "--devices 3: there are 2"),
    ],
)
def test_devices_that_do_not_divide_a_batch(changes, words):
    with pytest.raises(ConfigError, match=words):
        mesh_for(config(**{"batch_size": 8, **changes}))


@pytest.mark.skipif(SEVERAL, reason="this jax trains on several devices")
def test_old_versions_train_on_one_device():
    assert mesh_for(config()).size == 1
    with pytest.raises(ConfigError, match=r"need jax 0.8 or newer; this is 0\.7"):
        mesh_for(config(devices=2))


@pytest.mark.parametrize("name", ["accumulate", "devices", "processes"])
def test_numbers_below_one(name):
    with pytest.raises(ConfigError, match=f"{name} must be at least 1; got 0"):
        config(**{name: 0})


@several
def test_results_name_all_devices():
    assert device(2).startswith("2 devices (CPU), ")
    assert "devices" not in device(1)


def test_a_device_without_enough_memory():
    """XLA's error becomes one that names what helps."""
    helps = r"a step of 8 images needs .*--batch-size.*--accumulate.*--precision"
    with pytest.raises(OutOfMemory, match=helps), watched("a step of 8 images"):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 9 GB were asked for")
    with pytest.raises(ValueError, match="something else"), watched("a step"):
        raise ValueError("something else")

"""One training step, and the images that each step takes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from trainings import config

from train.data import load
from train.initial import initial_model
from train.specs import ModelSpec
from train.steps import Batch, TrainState, batch_indices, train_step


@pytest.fixture(scope="module")
def digits():
    return load("digits")


NAMES = ("cnn", "st_cnn-affine", "st_cnn-tps")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("network", ["lean", "deep"])
def test_one_step_improves_every_parameter_that_has_a_gradient(digits, name, network):
    """The new value of each parameter, with the other parameters' old ones, is better.

    Those of the localization networks have no gradient before the weights of the
    regression layer have left zero. The second step changes them.
    """
    setup = config(network=network)
    model = initial_model(setup, ModelSpec.parse(name), digits)
    graphdef, params = nnx.split(model)
    optimizer = optax.sgd(0.05)
    batch = Batch(jnp.asarray(digits.train.images[:64]), digits.train.labels[:64])
    step = jax.jit(partial(train_step, graphdef, optimizer, setup))
    key, zero = jax.random.key(0), jnp.zeros((), jnp.int32)
    start = TrainState(params, optimizer.init(params), key, zero)
    first, metrics = step(start, batch)
    second, _ = step(first, batch)
    assert (first.step, second.step) == (1, 2)
    _, later = step(first._replace(step=zero), batch)  # with the same distortions
    assert 2.2 < metrics["loss"] < 2.5  # log 10: it knows nothing yet
    assert 70 < metrics["error"] <= 100
    assert metrics["outside"] == metrics["blank"] == 0
    assert later["loss"] < metrics["loss"]
    paths, tree = jax.tree_util.tree_flatten_with_path(params)
    old, new, newer = map(jax.tree.leaves, (params, first.params, second.params))
    for index, (path, _) in enumerate(paths):
        if "localization" in jax.tree_util.keystr(path):
            assert (new[index] == old[index]).all()
            assert (newer[index] != new[index]).any()
            continue
        mixed = jax.tree.unflatten(tree, [*old[:index], new[index], *old[index + 1 :]])
        _, improved = step(start._replace(params=mixed), batch)
        assert improved["loss"] < metrics["loss"], jax.tree_util.keystr(path)


def test_batches_go_through_all_images_epoch_by_epoch():
    indices = np.concatenate([batch_indices(20, 6, 0, step) for step in range(10)])
    assert indices.shape == (60,)
    for epoch in range(3):
        assert set(indices[20 * epoch : 20 * (epoch + 1)]) == set(range(20))
    assert indices[:20].tolist() != indices[20:40].tolist()
    assert batch_indices(20, 6, 1, 0).tolist() != indices[:6].tolist()
    assert batch_indices(4, 10, 0, 3).tolist() == batch_indices(4, 10, 0, 3).tolist()

"""The training loop: learning, determinism, several seeds in parallel."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx
from trainings import SETUP, ST_CNN, config, few, without_timings

from train.configs import Config
from train.data import Dataset, Split, load
from train.errors import ConfigError
from train.experiments import CONFIGS
from train.initial import initial_model
from train.loop import fit
from train.specs import ModelSpec
from train.trainer import first_of_each_class


@pytest.fixture(scope="module")
def digits():
    return load("digits")


SMALL_MODELS = ("cnn", "st_cnn-affine", "st_cnn-tps")


@pytest.mark.slow
def test_the_localization_network_has_a_separate_learning_rate(digits):
    data = few(digits, 64)

    def weights(model):
        return nnx.state(model.transformer0), nnx.state(model.classifier)

    def trained(**rates):
        return weights(fit(config(**rates), ST_CNN, data)[0].model)

    def equal(a, b):
        return all(jax.tree.leaves(jax.tree.map(lambda x, y: (x == y).all(), a, b)))

    start = weights(initial_model(config(), ST_CNN, data))
    transformer, classifier = trained(localization_learning_rate=0.0)
    assert equal(transformer, start[0])
    assert not equal(classifier, start[1])
    transformer, classifier = trained(learning_rate=0.0)
    assert not equal(transformer, start[0])
    assert equal(classifier, start[1])


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL_MODELS)
def test_one_batch_can_be_memorized(digits, name):
    data = few(digits, 32)
    setup = config(steps=150, batch_size=32, task="plain", learning_rate=3e-3)
    (run,) = fit(setup, ModelSpec.parse(name), data)
    assert run.rows[-1]["loss"] < 0.05
    assert run.rows[-1]["error"] == 0


@pytest.mark.parametrize(
    "name",
    ["fcn", *(pytest.param(n, marks=pytest.mark.slow) for n in ("cnn", "st_cnn-tps"))],
)
def test_two_runs_with_one_seed_are_the_same_run(digits, name):
    data = few(digits, 200)
    setup = config(steps=12, eval_every=4, task="rts")
    spec = ModelSpec.parse(name)
    rows = [without_timings(fit(setup, spec, data)[0].rows) for _ in range(2)]
    assert rows[0] == rows[1]
    (other,) = fit(dataclasses.replace(setup, seed=1), spec, data)
    assert without_timings(other.rows) != rows[0]


@pytest.mark.slow
def test_seeds_in_parallel_are_trained_as_each_alone(digits):
    """Affine: at the identity, the grid of a spline lies beside the pixels' centers.

    On which side, that is a matter of rounding, and so is the slope there.
    """
    digits, affine = few(digits, 60), ModelSpec("fcn", "affine", 1)
    setup = dataclasses.replace(SETUP, task="e", steps=4, parameters=150_000)
    together = fit(setup, affine, digits, seeds=(0, 3))
    for run, seed in zip(together, (0, 3), strict=True):
        alone_setup = dataclasses.replace(setup, seed=seed)
        (alone,) = fit(alone_setup, affine, digits)
        assert run.seed == alone.seed == seed
        for a, b in zip(run.rows, alone.rows, strict=True):
            assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
        np.testing.assert_allclose(
            run.snapshots.params, alone.snapshots.params, atol=2e-6
        )
    assert together[0].rows[0]["loss"] != together[1].rows[0]["loss"]


QUICK = ("tc-st_fcn-projective",)


TRAINED = [name for name, (_, c) in CONFIGS.items() if isinstance(c, Config)]


@pytest.mark.parametrize(
    ("name", "network"),
    [
        pytest.param(*(name, network), marks=() if name in QUICK else pytest.mark.slow)
        for name, network in [
            *((name, CONFIGS[name][1].network) for name in TRAINED if "-" in name),
            ("tutorial", "tutorial"),
            ("r-cnn", "paper"),
            ("rts-st_cnn-tps", "paper"),
            ("rts-st_fcn-affine", "paper"),
        ]
    ],
)
def test_every_configuration_learns(digits, name, network):
    """The loss falls in a few steps; volumes are taken from the smaller task."""
    setup = CONFIGS[name][1]
    volumes = setup.task == "3d60"
    setup = dataclasses.replace(
        setup,
        task="3d30" if volumes else setup.task,
        network=network,
        parameters=300_000,
        steps=45 if volumes else 60,
        batch_size=32 if volumes else 64,
        learning_rate=max(setup.learning_rate, 2e-3),
        eval_every=60,
    )
    data = few(digits, 200) if volumes else digits
    (run,) = fit(setup, setup.models[0], data)
    third = len(run.rows) // 3
    losses = [row["loss"] for row in run.rows]
    assert np.mean(losses[-third:]) < np.mean(losses[:third]) - 0.01
    assert run.parameters <= 300_000
    assert run.snapshots.params.shape[:1] == run.snapshots.steps.shape


@pytest.mark.parametrize(
    ("network", "name"),
    [
        ("lean", "st_cnn-affine"),
        ("deep", "multi_st_cnn-affine"),
        ("paper", "cnn"),
        ("paper", "st_cnn-tps"),
        ("tutorial", "cnn"),
        ("tutorial", "st_cnn-affine"),
    ],
)
def test_images_that_are_too_small(digits, network, name):
    parts = (Split(x.images[:20, 10:18, 10:18], x.labels[:20]) for x in digits[1:3])
    small = Dataset("small", *parts, digits.classes)
    setup = dataclasses.replace(config(), task="plain", network=network)
    with pytest.raises(ConfigError, match=r"small|18x18 pixels or more; got 8x8"):
        initial_model(setup, ModelSpec.parse(name), small)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([2, 0, 0, 1, 2], [1, 3, 0, 2]),  # classes 0, 1, 2, then the first other one
        ([3, 2, 1, 0, 4, 5, 6], [3, 1, 4, 6]),  # four of seven classes
        ([[3, 0], [1, 2], [4, 0]], [0, 1, 2]),  # numbers of one digit, of two
    ],
)
def test_the_examples_that_are_shown(labels, expected):
    assert [*first_of_each_class(np.array(labels), 4)] == expected

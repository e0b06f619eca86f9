"""The training program: steps, runs, the command line."""

import dataclasses
import json
import os
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import ROOT
from flax import nnx

from train import evaluate, experiment
from train.__main__ import main
from train.configs import CONFIGS, Config
from train.data import Dataset, load
from train.evaluate import predict
from train.evaluate import test_examples as examples_of
from train.folder import MARKER
from train.loop import fit, initial_model
from train.models import build, count_parameters
from train.steps import batch, train_step

MODELS = ("cnn", "st_cnn-affine", "st_cnn-tps")


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def few(data, count):
    return Dataset(data.name, *(x[:count] for x in data[1:5]), data.num_classes)


def config(**changes):
    base = Config(models=("cnn",), task="r", steps=4, batch_size=16)
    return dataclasses.replace(base, parameters=100_000, **changes)


def without_timings(rows):
    return [
        {k: v for k, v in row.items() if k not in ("seconds", "images_per_second")}
        for row in rows
    ]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("network", ["lean", "deep", "paper"])
@pytest.mark.parametrize("canvas", [28, 42])
def test_models_use_their_budget(name, network, canvas):
    budget = 400_000 if network == "paper" else 200_000
    model = nnx.eval_shape(
        lambda: build(
            name,
            network,
            canvas=(canvas, canvas, 1),
            size=(28, 28),
            num_classes=10,
            parameters=budget,
            seed=0,
        )
    )
    assert 0.95 * budget < count_parameters(model) <= budget


@pytest.mark.parametrize(
    ("name", "network", "side"),
    [
        ("st_cnn-affine", "lean", 28),
        ("st_fcn-affine", "lean", 20),
        ("2xst_fcn-affine", "lean", 12),
        ("2xst_fcn-affine", "paper", 42),
    ],
)
def test_what_a_transformer_sees_is_as_large_as_its_network_says(name, network, side):
    model = build(
        name,
        network,
        canvas=(42, 42, 2),
        size=(28, 28),
        num_classes=19,
        parameters=1_000_000,
        seed=0,
    )
    _, looks = model.look(jnp.ones((3, 42, 42, 2)))
    assert {look.seen.shape for look in looks} == {(3, side, side, 2)}
    assert len(looks) == 1 + name.startswith("2x")


@pytest.mark.parametrize(
    ("name", "at_28", "at_42"), [("fcn", 784, 441), ("cnn", 3136, 1600)]
)
def test_large_canvases_are_pooled_before_layers_that_are_fully_connected(
    name, at_28, at_42
):
    def inputs(canvas):
        network = build(
            name,
            "deep",
            canvas=(canvas, canvas, 1),
            size=(28, 28),
            num_classes=10,
            parameters=400_000,
            seed=0,
        )
        assert network(jnp.ones((2, canvas, canvas, 1))).shape == (2, 10)
        return (network.hidden1 if name == "fcn" else network.dense).in_features

    assert (inputs(28), inputs(42)) == (at_28, at_42)


def test_the_papers_network_has_its_layers():
    model = build(
        "st_cnn-tps",
        "paper",
        canvas=(42, 42, 1),
        size=(28, 28),
        num_classes=10,
        parameters=400_000,
        seed=0,
    )
    localization = model.transformer0.localization.layers.layers
    kernels = [x.kernel[...].shape for x in localization if hasattr(x, "kernel")]
    assert kernels == [(5, 5, 1, 20), (5, 5, 20, 20), (320, 20)]
    assert model.transformer0.regression.kernel[...].shape == (20, 32)
    width = model.classifier.conv1.kernel[...].shape[-1]
    assert model.classifier.conv1.kernel[...].shape == (9, 9, 1, width)
    assert model.classifier.conv2.kernel[...].shape == (7, 7, width, width)
    assert model(jnp.ones((2, 42, 42, 1))).shape == (2, 10)


def test_a_budget_too_small_is_an_error():
    with pytest.raises(ValueError, match="--parameters 100 is too few: this model has"):
        build(
            "cnn",
            "lean",
            canvas=(28, 28, 1),
            size=(28, 28),
            num_classes=10,
            parameters=100,
            seed=0,
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("network", ["lean", "deep"])
def test_one_step_improves_every_parameter(digits, name, network):
    of_network = config(network=network)
    graphdef, params = nnx.split(initial_model(of_network, name, digits))
    optimizer = optax.sgd(0.05)
    images, labels = jnp.asarray(digits.train_images[:64]), digits.train_labels[:64]
    key = jax.random.key(0)
    arguments = (key, images, labels)
    step = jax.jit(partial(train_step, graphdef, optimizer, of_network))
    new, state, metrics = step(params, optimizer.init(params), *arguments)
    _, _, later = step(new, state, *arguments)
    assert 2.2 < metrics["loss"] < 2.5  # log 10: it knows nothing yet
    assert 70 < metrics["error"] <= 100
    assert metrics["outside"] == metrics["blank"] == 0
    assert later["loss"] < metrics["loss"]
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), params, new)
    flat, _ = jax.tree_util.tree_flatten_with_path(moved)
    for path, has_moved in flat:
        # at zero weights nothing below the regression layer has a gradient yet
        assert has_moved or "localization" in jax.tree_util.keystr(path)


@pytest.mark.slow
def test_the_localization_network_has_a_learning_rate_of_its_own(digits):
    data = few(digits, 64)

    def weights(model):
        return nnx.state(model.transformer0), nnx.state(model.classifier)

    def trained(**rates):
        return weights(fit(config(**rates), "st_cnn-affine", data)[0].model)

    def equal(a, b):
        return all(jax.tree.leaves(jax.tree.map(lambda x, y: (x == y).all(), a, b)))

    start = weights(initial_model(config(), "st_cnn-affine", data))
    transformer, classifier = trained(localization_learning_rate=0.0)
    assert equal(transformer, start[0])
    assert not equal(classifier, start[1])
    transformer, classifier = trained(learning_rate=0.0)
    assert not equal(transformer, start[0])
    assert equal(classifier, start[1])


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_one_batch_can_be_learnt_by_heart(digits, name):
    data = few(digits, 32)
    setup = config(steps=150, batch_size=32, task="plain", learning_rate=3e-3)
    (run,) = fit(setup, name, data)
    assert run.rows[-1]["loss"] < 0.05
    assert run.rows[-1]["error"] == 0


@pytest.mark.parametrize(
    "name", ["cnn", pytest.param("st_cnn-tps", marks=pytest.mark.slow)]
)
def test_two_runs_with_one_seed_are_the_same_run(digits, name):
    data = few(digits, 200)
    setup = config(steps=12, eval_every=4, task="rts")
    rows = [without_timings(fit(setup, name, data)[0].rows) for _ in range(2)]
    assert rows[0] == rows[1]
    (other,) = fit(dataclasses.replace(setup, seed=1), name, data)
    assert without_timings(other.rows) != rows[0]


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
    """A few real steps, on the volumes' smaller task; the loss falls."""
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
    assert run.looks.params.shape[:1] == run.looks.steps.shape


def test_the_whole_test_set_is_evaluated(digits):
    """33 images in batches of 8: the last is not full, and none is dropped."""
    model = initial_model(config(), "cnn", digits)
    images, _ = examples_of(few(digits, 33), "r")
    graphdef, state = nnx.split(model)
    stacked = jax.tree.map(lambda x: x[None], state)
    predictions = predict(graphdef, stacked, images, batch_size=8)
    expected = [int(model(image[None]).argmax()) for image in images]
    assert predictions.tolist() == [expected]


def test_the_test_set_is_whole_and_in_order(digits, monkeypatch):
    """Made in parts, the last one shorter; "plain" leaves digits as they are."""
    monkeypatch.setattr(evaluate, "CHUNK", 8)
    images, labels = examples_of(few(digits, 20), "plain")
    np.testing.assert_allclose(images, digits.test_images[:20] / 255, atol=1e-6)
    np.testing.assert_array_equal(labels, digits.test_labels[:20])


@pytest.mark.slow
def test_the_test_set_is_the_same_under_every_seed(digits):
    data = few(digits, 20)
    for a, b in zip(examples_of(data, "tc"), examples_of(data, "tc"), strict=True):
        np.testing.assert_array_equal(a, b)
    (stale,) = fit(config(learning_rate=0.0, seed=5, eval_every=2), "cnn", data)
    errors = [row["test_error"] for row in stale.rows if "test_error" in row]
    assert len(errors) == 2
    assert errors[0] == errors[1]
    wrong = (stale.predictions != data.test_labels).mean()
    assert stale.test_error == pytest.approx(100 * wrong)


def test_batches_go_through_all_images_epoch_by_epoch():
    indices = np.concatenate([batch(20, 6, 0, step) for step in range(10)])
    assert indices.shape == (60,)
    for epoch in range(3):
        assert set(indices[20 * epoch : 20 * (epoch + 1)]) == set(range(20))
    assert indices[:20].tolist() != indices[20:40].tolist()
    assert batch(20, 6, 1, 0).tolist() != indices[:6].tolist()
    assert batch(4, 10, 0, 3).tolist() == batch(4, 10, 0, 3).tolist()


# the command line


def npz(path, rng, size=(20, 24), channels=3, classes=4):
    names = {"train": 40, "test": 21}
    arrays = {}
    for split, count in names.items():
        labels = np.arange(count) % classes
        images = 0.1 * rng.uniform(size=(count, *size, channels))
        for image, label in zip(images, labels, strict=True):
            image[4 + 3 * label : 7 + 3 * label, 5:15] += 0.9
        arrays |= {f"x_{split}": images, f"y_{split}": labels}
    np.savez(path, **arrays)
    return path


OPTIONS = ["--steps", "6", "--batch-size", "16", "--eval-every", "3"]


def test_a_run_from_the_command_line(tmp_path, rng, capsys):
    """On color images of another size, already distorted."""
    out = tmp_path / "out"
    data = npz(tmp_path / "mine.npz", rng)
    arguments = ["run", "r", "--dataset", str(data), "--task", "plain", *OPTIONS]
    models = ["cnn", "st_cnn-affine"]
    arguments += ["--models", *models, "--out", str(out)]
    assert main(arguments) == 0
    files = {path.name for path in out.iterdir()} - {MARKER}
    assert files == {"metrics.jsonl", "results.json", "figure.png", "curves.png"}
    rows = [
        json.loads(line)
        for line in (out / "metrics.jsonl").read_text().split("\n")[:-1]
    ]
    assert {row["model"] for row in rows} == set(models)
    results = json.loads((out / "results.json").read_text())
    assert results["config"]["steps"] == 6
    assert results["data"] == {"name": "mine", "training_images": 40, "test_images": 21}
    assert results["versions"]["jax"] == jax.__version__
    for model, name in zip(results["models"], models, strict=True):
        own = [row for row in rows if row["model"] == name]
        assert model["test_error"] == own[-1]["test_error"]
        assert [row["step"] for row in own if "test_error" in row] == [3, 6]
        assert model["parameters"] <= 400_000
    printed = capsys.readouterr().out
    for text in ("ST-CNN affine", "parameters", "seconds", "figure.png", "curves.png"):
        assert text in printed
    # a second time: nothing is lost without a word
    before = (out / "results.json").read_bytes()
    assert main(arguments) == 1
    assert "holds the results of an earlier run" in capsys.readouterr().err
    assert (out / "results.json").read_bytes() == before
    assert main([*arguments, "--overwrite", "--models", "cnn"]) == 0
    results = json.loads((out / "results.json").read_text())
    assert [model["model"] for model in results["models"]] == ["cnn"]


@pytest.mark.slow
def test_results_go_under_runs_by_default(tmp_path, rng, monkeypatch):
    data = npz(tmp_path / "mine.npz", rng, channels=2)
    monkeypatch.chdir(tmp_path)
    assert main(["run", "rts-cnn", "--dataset", str(data), *OPTIONS]) == 0
    assert (tmp_path / "runs" / "rts-cnn" / "figure.png").exists()


def test_the_list_names_every_configuration(capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(CONFIGS)


def test_whoever_reads_the_list_may_stop():
    command = [sys.executable, "-m", "train", "list"]
    reads, writes = os.pipe()
    os.close(reads)
    done = subprocess.run(command, stdout=writes, stderr=subprocess.PIPE, cwd=ROOT)
    os.close(writes)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("arguments", "status"),
    [([], 2), (["--help"], 0), (["bake"], 2), (["list", "r"], 2), (["compare"], 2)],
)
def test_usage(arguments, status, capsys):
    assert main(arguments) == status
    assert "usage: python -m train" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["r-cnn", "--steps", "0"], "steps must be at least 1"),
        (["r-cnn", "--steps", "many"], "many"),
        (["r-cnn", "--models", "vit"], "vit"),
        (["r-cnn", "--seed", "-1"], "seed must be from 0"),
        (["r-cnn", "--learning-rate", "nan"], "learning_rate must be 0 or more"),
        (["r-cnn", "--task", "x"], "rts"),
        (["r-cnn", "--resume", "--overwrite"], "exclude each other"),
        (["r-cnn", "--clip", "0"], "clip must be more than 0"),
        (["r-cnn", "--outside-penalty", "-1"], "outside_penalty must be 0 or more"),
    ],
)
def test_options_that_cannot_be(arguments, message, capsys):
    with pytest.raises(SystemExit) as info:
        main(["run", *arguments])
    assert info.value.code == 2
    printed = capsys.readouterr()
    assert message in printed.out + printed.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dataset", "none.npz"], "none.npz: no such file"),
        (["--dataset", "mnist", "--data-dir", "nowhere"], "nowhere is not a folder"),
        (["--dataset", "digits", "--parameters", "9"], "--parameters 9 is too few"),
    ],
)
def test_errors_have_no_traceback(tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    assert main(["run", "r-cnn", *options]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert not list(tmp_path.rglob("*.json"))


def test_out_must_be_a_folder(tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("mine")
    assert main(["run", "r-cnn", "--dataset", "digits", "--out", str(file)]) == 1
    assert "is a file, not a folder" in capsys.readouterr().err
    assert file.read_text() == "mine"


def test_compare_averages_over_seeds_alone(tmp_path, capsys):
    for seed, error in enumerate([1.0, 2.0, 3.0, 9.0]):
        setup = dataclasses.asdict(config(seed=seed))
        setup["clip"] = 1.0 if error == 9 else None
        results = {
            "config": setup | {"out": None},
            "data": {"name": "mnist"},
            "models": [
                {"model": "cnn", "parameters": 7, "test_error": error, "seconds": 10.0}
            ],
        }
        (tmp_path / f"{seed}").mkdir()
        (tmp_path / f"{seed}" / experiment.RESULTS).write_text(json.dumps(results))
    assert main(["compare", *(str(tmp_path / str(seed)) for seed in range(3))]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert line == "| R | mnist | CNN | 7 | 4 | 3 | 2.00 ± 1.00 | 10 |"
    assert main(["compare", *(str(tmp_path / str(seed)) for seed in range(4))]) == 0
    lines = capsys.readouterr().out.splitlines()[-2:]
    assert lines == [
        "| R | mnist | CNN, clip None | 7 | 4 | 3 | 2.00 ± 1.00 | 10 |",
        "| R | mnist | CNN, clip 1.0 | 7 | 4 | 1 | 9.00 | 10 |",
    ]
    assert main(["compare", str(tmp_path)]) == 1
    assert "no such file; has the run ended?" in capsys.readouterr().err

"""Trainings that are stopped and go on, side by side, guarded; tables and reports."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from stn_jax.transforms import Attention
from train import colocalization, objective, plots, report, results, table, triplets
from train.__main__ import main
from train.checkpoints import Checkpoint
from train.classifiers import LeanCNN
from train.configs import (
    CONFIGS,
    Colocalization,
    Config,
    ConfigError,
    complete,
    scheduled,
)
from train.data import Dataset, load
from train.folder import MARKER, Folder
from train.loop import fit, initial_model
from train.models import Look, look

SETUP = Config(
    ("st_cnn-affine",),
    "r",
    dataset="digits",
    parameters=60_000,
    steps=9,
    batch_size=8,
    eval_every=6,
)


@pytest.fixture(scope="module")
def digits():
    data = load("digits")
    return Dataset(data.name, *(x[:60] for x in data[1:5]), data.num_classes)


def without_timings(rows):
    timings = ("seconds", "images_per_second")
    return [{k: v for k, v in row.items() if k not in timings} for row in rows]


# checkpoints


class Stopped(Exception):
    pass


def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(digits, tmp_path):
    (whole,) = fit(SETUP, "st_cnn-affine", digits)
    rows = []

    def stop(row):
        if row["step"] == 5:
            raise Stopped
        rows.append(row)

    folder = Folder(tmp_path, "run")
    folder.begin({})
    checkpoint = Checkpoint(folder, "state")
    with pytest.raises(Stopped):
        fit(SETUP, "st_cnn-affine", digits, stop, checkpoint=checkpoint, every=0.0)
    again = []
    checkpoint = Checkpoint(folder, "state")
    (resumed,) = fit(
        SETUP, "st_cnn-affine", digits, again.append, checkpoint=checkpoint
    )
    assert again[:4] == rows[:4]  # what was kept is told again, the same
    assert without_timings(resumed.rows) == without_timings(whole.rows)
    seconds = [row["seconds"] for row in resumed.rows]
    assert seconds == sorted(seconds)
    np.testing.assert_array_equal(resumed.predictions, whole.predictions)
    for a, b in zip(resumed.looks, whole.looks, strict=True):
        np.testing.assert_array_equal(a, b)
    # a third time there is nothing left to do
    (done,) = fit(SETUP, "st_cnn-affine", digits, checkpoint=checkpoint)
    assert done.rows == resumed.rows


def test_a_checkpoint_of_another_training_is_refused(digits, tmp_path):
    folder = Folder(tmp_path, "run")
    folder.begin({})
    checkpoint = Checkpoint(folder, "state")
    fit(SETUP, "st_cnn-affine", digits, checkpoint=checkpoint)
    other = dataclasses.replace(SETUP, steps=12)
    with pytest.raises(ConfigError, match="steps is 9, not 12"):
        fit(other, "st_cnn-affine", digits, checkpoint=checkpoint)


def test_a_corrupt_checkpoint_is_passed_over(tmp_path):
    folder = Folder(tmp_path, "run")
    folder.begin({})
    checkpoint = Checkpoint(folder, "state")
    for step in (1, 2):
        noise = np.random.default_rng(step).normal(size=100_000)
        arrays = {"x": noise, "none": np.zeros((2, 0))}
        checkpoint.save(step, arrays, {"step": step})
    arrays, record = Checkpoint(folder, "state").load()
    assert record == {"step": 2}
    assert arrays["none"].shape == (2, 0)
    latest = tmp_path / "state" / "2.state"
    whole = latest.read_bytes()
    noise = np.random.default_rng(1).normal(size=100_000)
    for at in (0, 40, len(whole) // 2, len(whole) - 1):
        damaged = bytearray(whole)
        damaged[at] ^= 1
        latest.write_bytes(damaged)
        with pytest.warns(UserWarning, match=r"2\.state is corrupt \(its digest"):
            arrays, record = Checkpoint(folder, "state").load()
        assert record == {"step": 1}
        np.testing.assert_array_equal(arrays["x"], noise)
    assert Checkpoint(folder, "new").load() is None


def test_two_states_are_kept(tmp_path):
    folder = Folder(tmp_path, "run")
    folder.begin({})
    checkpoint, other = (Checkpoint(folder, name) for name in ("state", "state-2"))
    other.save(1, {}, {})
    for step in (5, 50, 500):
        checkpoint.save(step, {}, {"step": step})
    assert {path.name for path in (tmp_path / "state").iterdir()} == {
        "50.state",
        "500.state",
    }
    checkpoint.remove()
    assert folder.files == ("state-2/1.state",)
    assert not (tmp_path / "state").exists()


def test_a_run_that_was_stopped_goes_on_with_resume(
    digits, tmp_path, monkeypatch, capsys
):
    out = str(tmp_path / "out")
    options = ["--dataset", "digits", "--steps", "8", "--batch-size", "8"]
    arguments = ["run", "r-fcn", *options, "--out", out, "--parameters", "60000"]
    save = Checkpoint.save

    def interrupted(self, step, *rest):
        save(self, step, *rest)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", interrupted)
        assert main(arguments) == 130
    assert "stopped" in capsys.readouterr().err
    assert main(arguments) == 1
    assert "Go on with --resume" in capsys.readouterr().err
    assert main([*arguments, "--resume"]) == 0
    rows = (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == [*range(1, 9)]
    assert not (tmp_path / "out" / "checkpoints").exists()
    # what is over is not begun again
    assert main([*arguments, "--resume"]) == 1
    assert "holds the results of an earlier run" in capsys.readouterr().err


# side by side


@pytest.mark.slow
def test_seeds_side_by_side_are_trained_as_each_alone(digits):
    setup = dataclasses.replace(SETUP, task="e", steps=4, parameters=150_000)
    together = fit(setup, "st_fcn-tps", digits, seeds=(0, 3))
    for run, seed in zip(together, (0, 3), strict=True):
        alone_setup = dataclasses.replace(setup, seed=seed)
        (alone,) = fit(alone_setup, "st_fcn-tps", digits)
        assert run.seed == alone.seed == seed
        for a, b in zip(run.rows, alone.rows, strict=True):
            assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)
        np.testing.assert_allclose(
            run.looks.params, alone.looks.params, rtol=1e-3, atol=1e-4
        )
    assert together[0].rows[0]["loss"] != together[1].rows[0]["loss"]


# guards


def a_look(grid, seen):
    return Look(jnp.zeros((2, 6)), jnp.asarray(grid, float), jnp.asarray(seen, float))


def test_outside_blank_and_excess_are_what_they_say():
    grid = np.zeros((2, 2, 2, 2))
    grid[0, 0, 0] = 1.5, 0  # one of eight points, half a unit out
    grid[1, 1, 1] = -3, 2  # another, two units and one
    seen = np.zeros((2, 2, 2, 1))
    seen[0, 0, 0] = 0.5  # the second sees nothing
    looks = [a_look(grid, seen)]
    assert objective.outside(looks) == 25
    assert objective.blank(looks) == 50
    assert objective.excess(looks) == pytest.approx((0.25 + 4 + 1) / 16)
    both = [*looks, a_look(np.zeros((2, 2, 2, 2)), seen)]
    assert objective.outside(both) == 12.5
    assert objective.outside([]) == objective.blank([]) == objective.excess([]) == 0


@pytest.mark.slow
def test_the_penalty_pulls_the_grid_back(digits):
    """From far outside, where the images have no gradient at all."""
    model = initial_model(SETUP, "st_cnn-affine", digits)
    model.transformer0.regression.bias[...] = jnp.array([1.0, 0, 6, 0, 1, 6])
    graphdef, params = nnx.split(model)
    images = jnp.asarray(digits.test_images[:8]) / 255

    def loss(params):
        return objective.excess(look(nnx.merge(graphdef, params), images)[1])

    assert loss(params) > 20
    optimizer = optax.adam(0.1)
    state = optimizer.init(params)
    step = jax.jit(lambda p, s: optimizer.update(jax.grad(loss)(p), s))
    for _ in range(80):
        updates, state = step(params, state)
        params = optax.apply_updates(params, updates)
    assert loss(params) < 0.1


def test_bounded_parameters_stay_bounded(digits):
    setup = dataclasses.replace(SETUP, bound=0.5)
    model = initial_model(setup, "st_cnn-affine", digits)
    images = jnp.asarray(digits.test_images[:4]) / 255
    transformer = model.transformer0
    identity = np.array([1.0, 0, 0, 0, 1, 0])
    np.testing.assert_allclose(transformer.localize(images)[0], identity, atol=1e-6)
    transformer.regression.bias[...] = jnp.array([1.1, 9, -9, 0, 99, 0])
    params = transformer.localize(images)[0]
    expected = identity + 0.5 * np.tanh(np.array([0.1, 9, -9, 0, 98, 0]) / 0.5)
    np.testing.assert_allclose(params, expected, atol=1e-5)


@pytest.mark.slow
def test_clipping_bounds_the_localizations_step_alone(digits):
    """With plain SGD a step is the rate times the gradient."""
    base = scheduled(dataclasses.replace(SETUP), "tutorial")
    base = dataclasses.replace(base, learning_rate=1.0, localization_learning_rate=1.0)
    params = nnx.state(initial_model(base, "st_cnn-affine", digits))
    grads = jax.tree.map(jnp.ones_like, params)

    def updates(clip):
        optimizer = objective.make_optimizer(dataclasses.replace(base, clip=clip))
        return optimizer.update(grads, optimizer.init(params), params)[0]

    def norm(tree):
        return jnp.sqrt(sum(jnp.square(x).sum() for x in jax.tree.leaves(tree)))

    free, clipped = updates(None), updates(0.25)
    assert norm(clipped["transformer0"]) == pytest.approx(0.25, rel=1e-4)
    assert norm(free["transformer0"]) > 1
    assert norm(free["classifier"]) == norm(clipped["classifier"])


@pytest.mark.slow
def test_a_collapse_is_told_in_plain_words(digits, tmp_path, capsys):
    """A transformer that is thrown off at once: the rate is absurd."""
    arguments = ["run", "r-st_cnn-affine", "--dataset", "digits", "--steps", "30"]
    arguments += ["--batch-size", "8", "--parameters", "60000"]
    arguments += ["--localization-learning-rate", "30", "--out", str(tmp_path / "x")]
    assert main(arguments) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "The transformer of ST-CNN affine has collapsed: " in printed
    assert "it sees nothing in" in printed or "of its grid lies outside" in printed
    rows = (tmp_path / "x" / "metrics.jsonl").read_text().splitlines()
    last = json.loads(rows[-1])
    assert last["blank"] > 50 or last["outside"] > 90


# schedules


def test_the_schedule_sets_the_defaults_of_others(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "train.experiment.run", lambda name, config, _: asked.append(config)
    )
    assert main(["run", "r-cnn", "--schedule", "paper", "--batch-size", "32"]) == 0
    (config,) = asked
    assert (config.steps, config.batch_size) == (150_000, 32)
    assert config.learning_rate == 0.01


def test_the_papers_schedule_is_a_tenth_after_each_third(digits):
    base = scheduled(SETUP, "paper")
    config = dataclasses.replace(base, steps=30)
    params = nnx.state(initial_model(config, "cnn", digits))
    optimizer = objective.make_optimizer(config)
    state = optimizer.init(params)
    ones = jax.tree.map(jnp.ones_like, params)
    sizes = []
    update = jax.jit(optimizer.update)
    for _ in range(30):
        updates, state = update(ones, state, params)
        sizes.append(float(-jax.tree.leaves(updates)[0].ravel()[0]))
    assert sizes[0] == pytest.approx(0.01)
    ratios = np.array(sizes)[1:] / np.array(sizes)[:-1]
    assert [*np.flatnonzero(ratios < 0.5) + 1] == [10, 20]
    assert ratios[9] == pytest.approx(0.1, rel=0.1)  # the momentum grows still


def test_unknown_names_get_a_suggestion(capsys):
    assert main(["run", "r-st_cnn"]) == 1
    error = capsys.readouterr().err
    assert "there is no configuration 'r-st_cnn': try r-st_cnn-" in error


# tables


OPTIONS = ["--dataset", "digits", "--steps", "3", "--batch-size", "8"]
OPTIONS += ["--parameters", "60000", "--columns", "r", "--rows", "fcn"]


def test_a_table_is_trained_cell_by_cell_and_told(tmp_path, capsys):
    arguments = ["table", "--out", str(tmp_path), *OPTIONS, "--seeds", "2"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "1 cells under 2 seeds, 2 of them to be trained, 3 steps each" in " ".join(
        printed.split()
    )
    documents = [
        results.read(tmp_path / "r-fcn" / f"seed-{seed}.json") for seed in range(2)
    ]
    errors = [document["models"][0]["test_error"] for document in documents]
    mean, spread = np.mean(errors), np.std(errors, ddof=1)
    assert f"| FCN | {mean:.2f} ± {spread:.2f} / 2.1 |" in printed
    # what is done is not done again; more seeds are added
    before = (tmp_path / "r-fcn" / "seed-0.json").read_bytes()
    assert main([*arguments[:-1], "3"]) == 0
    assert "3 of them" not in (printed := capsys.readouterr().out)
    assert "1 of them to be trained" in printed
    assert (tmp_path / "r-fcn" / "seed-0.json").read_bytes() == before
    files = {path.name for path in tmp_path.iterdir()} - {MARKER}
    assert files == {"r-fcn", "report.md", "report.png", "report.json", "looks-r.png"}
    # the report needs the stored results alone; one file of them will do
    assert main(["report", str(tmp_path)]) == 0
    whole = capsys.readouterr().out
    assert main(["report", str(tmp_path / "report.json")]) == 0
    assert capsys.readouterr().out == whole
    # other settings have no place in this folder
    assert main([*arguments, "--steps", "4"]) == 1
    assert "steps 3, not 4" in capsys.readouterr().err
    assert main([*arguments, "--elastic", "0.5"]) == 1
    assert "elastic 0.0, not 0.5" in capsys.readouterr().err
    assert main([*arguments, "--clip", "1", "--learning-rate", "0.1"]) == 1
    assert "learning_rate 0.002, not 0.1, clip None, not 1.0" in capsys.readouterr().err


def test_results_from_before_a_setting_had_it_at_its_default():
    config = dataclasses.asdict(Config(("fcn",), "r"))
    without = {name: x for name, x in config.items() if name != "elastic"}
    assert complete(without) == config
    model = {"model": "fcn", "parameters": 7, "seconds": 60.0}
    model |= {"test_error": 1.0, "blank": 0.0, "outside": 0.0}
    told = {"data": {"name": "mnist", "test_images": 10}, "date": "2026-01-01"}
    told |= {"device": "an abacus", "versions": {}, "models": [model]}
    text = report.markdown([{**told, "config": c} for c in (config, without)])
    assert text.count("| model |") == 1
    assert "| FCN | 1.00 ± 0.00 / 2.1 |" in text
    warped = {**told, "config": {**config, "elastic": 0.5}}
    text = report.markdown([{**told, "config": without}, warped])
    assert text.count("| model |") == 2
    assert "128 images, elastic 0.5. 1 training of" in text


@pytest.mark.slow
def test_a_table_runs_out_of_memory_and_goes_on_with_fewer(
    tmp_path, digits, monkeypatch, capsys
):
    """More than one side by side is too much for this machine."""
    at_once = []

    def few(config, name, data, on_row, *, seeds, **options):
        at_once.append(len(seeds))
        if len(seeds) > 1:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return fit(config, name, digits, on_row, seeds=seeds, **options)

    monkeypatch.setattr(table, "fit", few)
    arguments = ["table", "--out", str(tmp_path), *OPTIONS, "--seeds", "3"]
    assert main([*arguments, "--together", "3"]) == 0
    assert at_once == [3, 1, 1, 1]
    assert "out of memory: 1 side by side from here on" in capsys.readouterr().out


def test_errors_of_tables(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 1
    assert "holds no results of python -m train table" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="seeds must be at least 1; got 0"):
        table.Table(out=tmp_path, seeds=0)


def test_the_settings_of_a_cell(tmp_path):
    """They are the schedule's, then the task's, then what was asked for."""
    plain = table.Table(out=tmp_path)
    assert plain.config("fcn", "r").outside_penalty == 0
    assert plain.config("fcn", "addition").outside_penalty == 1
    assert CONFIGS["addition-2xst_fcn-tps"][1].outside_penalty == 1
    asked = table.Table(out=tmp_path, outside_penalty=0, clip=2, learning_rate=0.5)
    config = asked.config("fcn", "addition")
    assert (config.outside_penalty, config.clip, config.learning_rate) == (0, 2, 0.5)


def test_the_report_says_what_is_missing():
    config = Config(("cnn",), "r", steps=5, batch_size=2, outside_penalty=0.5)
    told = {
        "config": dataclasses.asdict(config),
        "data": {"name": "mnist", "test_images": 10},
        "date": "2026-01-01",
        "device": "an abacus",
        "versions": {"jax": "1"},
    }
    models = [
        {"model": "cnn", "test_error": 1.0, "parameters": 7, "seconds": 3600.0}
        | {"blank": 80.0, "outside": 1.0}
    ]
    other = {**told, "config": {**told["config"], "task": "addition"}}
    fcn = [{**models[0], "model": "2xst_fcn-tps", "blank": 0.0}]
    text = report.markdown([{**told, "models": models}, {**other, "models": fcn}])
    assert "| model | R | ADDITION |" in text
    assert "| CNN | 1.00 (collapsed) / 1.2 | not trained / 14.7 |" in text
    assert "| 2xST-FCN TPS |  | 1.00 / 5.8 |" in text
    assert "ours / the paper's: seed 0, on 10 test images of mnist; lean" in text
    assert "5 steps of 2 images, outside penalty 0.5. 2 trainings of 2.0 hours" in text
    assert "together, on an abacus; 2026-01-01; jax 1." in text


# pictures


@pytest.mark.slow
def test_looks_are_stored_and_animated(digits, tmp_path):
    for model, task in (("2xst_fcn-affine", "addition"), ("st_cnn-affine", "3d30")):
        setup = dataclasses.replace(SETUP, task=task, steps=3, parameters=300_000)
        (run,) = fit(setup, model, digits)
        assert run.looks.params.shape[:2] == (3, 2 if model[0] == "2" else 1)
        folder = Folder(tmp_path, "run")
        folder.begin({})
        results.write_arrays(folder, "looks.npz", run.looks._asdict())
        looks = results.read_looks(tmp_path / "looks.npz")
        for a, b in zip(looks, run.looks, strict=True):
            np.testing.assert_array_equal(a, b)
        results.write_figure(folder, "look.png", plots.look({model: looks}))
        plots.animate(model, looks, tmp_path / "look.gif")
        assert (tmp_path / "look.gif").read_bytes()[:6] == b"GIF89a"


@pytest.mark.slow
def test_the_outline_is_where_the_pixels_are_read(digits):
    """The identity's outline runs through the outermost pixels' centers."""
    (run,) = fit(dataclasses.replace(SETUP, steps=1), "st_cnn-affine", digits)
    looks = run.looks._replace(params=np.tile([1.0, 0, 0, 0, 1, 0], (1, 1, 10, 1)))
    outlines, seen = plots.read("st_cnn-affine", looks, looks.params[0, 0])
    upper, rest = outlines[0]
    np.testing.assert_allclose(upper[[0, -1]], [[0, 0], [27, 0]], atol=1e-4)
    np.testing.assert_allclose(rest[0], [27, 0], atol=1e-4)
    np.testing.assert_allclose(rest[-1], [0, 0], atol=1e-4)
    np.testing.assert_allclose(seen, looks.images, atol=1e-5)


# co-localization


def test_intersection_over_union():
    third = 1 / 3
    params = np.array(
        [
            [third, third - 1, third - 1],  # the upper left 28 x 28
            [third, third - 1, third - 1],
            [-third, third - 1, third - 1],  # mirrored twice: the same square
            [1, 0, 0],  # all of it
        ]
    )
    corners = np.array([[0, 0], [14, 0], [0, 0], [10, 20]])
    overlap = triplets.intersection_over_union(params, corners)
    np.testing.assert_allclose(overlap, [1, third, 1, 28**2 / 84**2], atol=1e-6)


def test_a_scene_has_the_digit_at_its_corner():
    digit = jnp.ones((28, 28, 1))
    for pieces in (0, 16):
        scene = triplets.scene(jax.random.key(1), digit, 0.5 * digit[None], pieces)
        image, (x, y) = np.asarray(scene.images), np.asarray(scene.corners)
        assert (image[y : y + 28, x : x + 28] == 1).all()
        assert image.sum() >= 28**2
        assert (image.sum() > 28**2) == bool(pieces)


@pytest.mark.slow
def test_colocalization_from_the_command_line(tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["run", "colocalization", "--dataset", "digits", "--digits", "4"]
    arguments += ["--steps", "5", "--images", "12", "--batch-size", "4"]
    arguments += ["--encoder-steps", "10", "--encoder-parameters", "60000"]
    arguments += ["--clutter", "0", "2", "--out", str(out)]
    assert main(arguments) == 0
    document = results.read(out / "results.json")
    told = [(row["digit"], row["clutter"]) for row in document["models"]]
    assert told == [(4, 0), (4, 2)]
    assert all(0 <= row["correct"] <= 100 for row in document["models"])
    assert (out / "figure.png").exists()
    assert "before and after" in capsys.readouterr().out
    assert main(arguments) == 1
    assert "holds the results of an earlier run" in capsys.readouterr().err


def test_a_colocalization_that_was_stopped_goes_on(tmp_path, monkeypatch, capsys):
    """What was located is not located again."""
    digits = jnp.zeros((3, 28, 28, 1))
    located = []

    def locate(config, data, encoders, digit, pieces):
        located.append(digit)
        if len(located) == 2:
            raise KeyboardInterrupt
        scenes = triplets.Scenes(jnp.ones((3, 84, 84, 1)), jnp.ones((3, 2)))
        params = np.full((3, 3), 0.5, np.float32)
        overlap = np.array([0.4, 0.6, 0.7])
        return triplets.Located(digit, pieces, scenes, params, overlap, 0.25, 0.5)

    monkeypatch.setattr(colocalization, "_encoder", lambda *_: digits)
    monkeypatch.setattr(colocalization, "locate", locate)
    arguments = ["run", "colocalization", "--dataset", "digits", "--digits", "1", "2"]
    arguments += ["--clutter", "0", "--out", str(tmp_path)]
    assert main(arguments) == 130
    assert main([*arguments, "--resume", "--steps", "7"]) == 1
    assert "holds a run with other settings" in capsys.readouterr().err
    assert main([*arguments, "--resume"]) == 0
    assert located == [1, 2, 2]
    rows = results.read(tmp_path / "results.json")["models"]
    assert [row["digit"] for row in rows] == [1, 2]
    assert [row["correct"] for row in rows] == [pytest.approx(200 / 3)] * 2
    assert (rows[0]["loss"], rows[0]["doubt"]) == (0.25, 0.5)
    assert {path.name for path in tmp_path.iterdir()} - {MARKER} == {
        "results.json",
        "metrics.jsonl",
        "figure.png",
    }


@pytest.mark.slow
def test_colocalization_learns():
    """The loss falls, on a few images of one digit."""
    data = load("digits")
    setup = Config(("cnn",), "patch", parameters=100_000, steps=300, eval_every=300)
    (trained,) = fit(setup, "cnn", data)
    digits = jnp.asarray(data.train_images) / 255
    encoder = triplets.Encoder(trained.model, digits)
    # the unit: a digit lies about 1 from an empty patch
    apart = encoder(digits) - encoder(jnp.zeros_like(digits))
    assert jnp.square(apart).sum(axis=-1).mean() == pytest.approx(1, rel=1e-3)
    before, after = (
        triplets.locate(
            Colocalization(
                images=40,
                steps=steps,
                batch_size=16,
                learning_rate=learning_rate,
                starts=1,
            ),
            data,
            [encoder],
            digit=0,
            pieces=0,
        ).loss
        for steps, learning_rate in ((50, 0.0), (400, 3e-3))
    )
    assert after < before - 0.1


class Sure(nnx.Module):
    """An encoder that is so sure that every patch is of the first of two classes."""

    def __init__(self, share):
        self.share = share

    def layers(self, patches):
        logits = jnp.log(jnp.array([self.share, 1 - self.share]))
        return (jnp.broadcast_to(logits, (len(patches), 2)),)


def test_the_start_whose_encoder_is_surest_is_kept(monkeypatch):
    losses = iter([0.1, 0.2, 0.4])
    begun = []

    def learn(*arguments):
        *_, params = arguments
        begun.append(params)
        marked = jax.tree.map(lambda x: jnp.full_like(x, len(begun)), params)
        return marked, jnp.asarray(next(losses))

    monkeypatch.setattr(triplets, "_learn", learn)
    config = Colocalization(images=4, starts=3)
    encoders = [Sure(0.5), Sure(0.9), Sure(0.3)]
    located = triplets.locate(config, load("digits"), encoders, digit=0, pieces=0)
    assert located.loss == pytest.approx(0.2)
    assert located.doubt == pytest.approx(-0.9 * np.log(0.9) - 0.1 * np.log(0.1))
    # all weights 2: the units are far above 0, the patch is as large as it may be
    np.testing.assert_allclose(located.params, [[0.6, 0.4, 0.4]] * 4, rtol=1e-5)
    first, second, _ = (jax.tree.leaves(params) for params in begun)
    assert any((a != b).any() for a, b in zip(first, second, strict=True))


def test_what_is_learnt_from_was_moved_before(monkeypatch):
    """Where moving empties the images all patches are alike: the loss is the margin."""
    asked = []

    def moved(key, image, pixels):
        asked.append(pixels)
        return jnp.zeros_like(image)

    monkeypatch.setattr(triplets, "moved", moved)
    cnn = LeanCNN((28, 28, 1), 10, 8, nnx.Rngs(0))
    encoder = triplets.Encoder(cnn, jnp.ones((2, 28, 28, 1)))
    config = Colocalization(steps=2, jitter=3, margin=0.7)
    images = jnp.ones((1, 4, 84, 84, 1))
    graphdef, params = nnx.split(triplets._transformer(config, 0))
    _, loss = triplets._learn(
        config, graphdef, *nnx.split(encoder), images, jax.random.key(0), params
    )
    assert loss == pytest.approx(0.7)
    assert set(asked) == {3}


def test_a_patch_lies_within_the_image():
    rng = np.random.default_rng(0)
    params = jnp.asarray(5 * rng.normal(size=(500, 3)), jnp.float32)
    s, tx, ty = np.asarray(triplets.Patch().attention(params)).T
    assert (s >= 0.3).all()
    assert (s <= 0.6).all()
    assert (np.abs(tx) <= 1 - s + 1e-6).all()
    assert (np.abs(ty) <= 1 - s + 1e-6).all()
    grid = triplets.Patch().grid(params, (5, 7), align_corners=True)
    assert grid.shape == (500, 5, 7, 2)
    assert np.abs(grid).max() <= 1 + 1e-6
    expected = Attention().grid(jnp.array([0.45, 0, 0]), (5, 7), align_corners=True)
    start = triplets.Patch().identity
    ours = triplets.Patch().grid(start, (5, 7), align_corners=True)
    np.testing.assert_allclose(ours, expected, atol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": 0},
        {"images": 1},
        {"jitter": -1},
        {"digits": ()},
        {"digits": (-1,)},
        {"clutter": ()},
    ],
)
def test_colocalizations_that_cannot_be(changes):
    with pytest.raises(ConfigError, match=next(iter(changes))):
        Colocalization(**changes)


def test_every_experiment_is_listed():
    starts = ("r-", "rts-", "p-", "e-", "tc-", "addition-", "3d-")
    for start in starts:
        assert any(name.startswith(start) for name in CONFIGS), start
    assert {"tutorial", "colocalization", "rts-multi_st_cnn-affine"} <= {*CONFIGS}

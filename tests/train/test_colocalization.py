"""Co-localization: its loss, its networks, its runs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from trainings import CNN

from stn_jax.transforms import Attention
from train.__main__ import main
from train.classifiers import LeanCNN
from train.colocalization import experiment, locating
from train.colocalization import objective as triplets
from train.colocalization.locating import Located, locate
from train.colocalization.networks import Encoder, Patch, patch_transformer
from train.colocalization.scenes import Scenes, intersection_over_union, scene
from train.configs import Colocalization, Config
from train.data import load
from train.loop import fit
from train.storage import artifacts
from train.storage.folder import LOCK, MARKER


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
    overlap = intersection_over_union(params, corners)
    np.testing.assert_allclose(overlap, [1, third, 1, 28**2 / 84**2], atol=1e-6)


def test_a_scene_has_the_digit_at_its_corner():
    digit = jnp.ones((28, 28, 1))
    for distractors in (0, 16):
        image, corner = scene(jax.random.key(1), digit, 0.5 * digit[None], distractors)
        image, (x, y) = np.asarray(image), np.asarray(corner)
        assert (image[y : y + 28, x : x + 28] == 1).all()
        assert image.sum() >= 28**2
        assert (image.sum() > 28**2) == bool(distractors)


@pytest.mark.slow
def test_colocalization_from_the_command_line(tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["run", "colocalization", "--dataset", "digits", "--digits", "4"]
    arguments += ["--steps", "5", "--images", "12", "--batch-size", "4"]
    arguments += ["--encoder-steps", "10", "--encoder-parameters", "60000"]
    arguments += ["--clutter", "0", "2", "--out", str(out)]
    assert main(arguments) == 0
    document = artifacts.read_json(out / "results.json")
    stored = [(row["digit"], row["clutter"]) for row in document["models"]]
    assert stored == [(4, 0), (4, 2)]
    assert all(0 <= row["correct"] <= 100 for row in document["models"])
    assert (out / "figure.png").exists()
    assert "located digits: " in capsys.readouterr().out
    assert main(arguments) == 1
    assert "holds the results of an earlier run" in capsys.readouterr().err


def test_a_colocalization_that_was_stopped_continues(tmp_path, monkeypatch, capsys):
    """Classes that are done are not trained again."""
    digits = jnp.zeros((3, 28, 28, 1))
    located = []

    def locate(config, data, encoders, digit, distractors):
        located.append(digit)
        if len(located) == 2:
            raise KeyboardInterrupt
        scenes = Scenes(jnp.ones((3, 84, 84, 1)), jnp.ones((3, 2)))
        params = np.full((3, 3), 0.5, np.float32)
        overlap = np.array([0.4, 0.6, 0.7])
        return Located(digit, distractors, scenes, params, overlap, 0.25, 0.5)

    monkeypatch.setattr(experiment, "_train_encoder", lambda *_: digits)
    monkeypatch.setattr(experiment, "locate", locate)
    arguments = ["run", "colocalization", "--dataset", "digits", "--digits", "1", "2"]
    arguments += ["--clutter", "0", "--out", str(tmp_path)]
    assert main(arguments) == 130
    assert main([*arguments, "--resume", "--steps", "7"]) == 1
    assert "holds a run with other settings" in capsys.readouterr().err
    assert main([*arguments, "--resume"]) == 0
    assert located == [1, 2, 2]
    rows = artifacts.read_json(tmp_path / "results.json")["models"]
    assert [row["digit"] for row in rows] == [1, 2]
    assert [row["correct"] for row in rows] == [pytest.approx(200 / 3)] * 2
    assert (rows[0]["loss"], rows[0]["doubt"]) == (0.25, 0.5)
    assert {path.name for path in tmp_path.iterdir()} - {MARKER, LOCK} == {
        "results.json",
        "metrics.jsonl",
        "figure.png",
    }


@pytest.mark.slow
def test_colocalization_learns():
    """The loss falls, on a few images of one digit."""
    data = load("digits")
    setup = Config((CNN,), "patch", parameters=100_000, steps=300, eval_every=300)
    (trained,) = fit(setup, CNN, data)
    digits = jnp.asarray(data.train.images) / 255
    encoder = Encoder(trained.model, digits)
    # the unit: a digit lies about 1 from an empty patch
    apart = encoder(digits) - encoder(jnp.zeros_like(digits))
    assert jnp.square(apart).sum(axis=-1).mean() == pytest.approx(1, rel=1e-3)
    before, after = (
        locate(
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
            distractors=0,
        ).loss
        for steps, learning_rate in ((50, 0.0), (400, 3e-3))
    )
    assert after < before - 0.1


class Constant(nnx.Module):
    """An encoder that classifies every patch with the same probability."""

    def __init__(self, probability):
        self.probability = probability

    def layers(self, patches):
        logits = jnp.log(jnp.array([self.probability, 1 - self.probability]))
        return (jnp.broadcast_to(logits, (len(patches), 2)),)


def test_the_start_with_the_lowest_entropy_is_kept(monkeypatch):
    losses = iter([0.1, 0.2, 0.4])
    begun = []

    def learn(*arguments):
        *_, params = arguments
        begun.append(params)
        marked = jax.tree.map(lambda x: jnp.full_like(x, len(begun)), params)
        return marked, jnp.asarray(next(losses))

    monkeypatch.setattr(locating, "learn", learn)
    config = Colocalization(images=4, starts=3)
    encoders = [Constant(0.5), Constant(0.9), Constant(0.3)]
    located = locate(config, load("digits"), encoders, digit=0, distractors=0)
    assert located.loss == pytest.approx(0.2)
    assert located.entropy == pytest.approx(-0.9 * np.log(0.9) - 0.1 * np.log(0.1))
    # all weights 2: the units are far above 0, the patch is as large as it may be
    np.testing.assert_allclose(located.params, [[0.6, 0.4, 0.4]] * 4, rtol=1e-5)
    first, second, _ = (jax.tree.leaves(params) for params in begun)
    assert any((a != b).any() for a, b in zip(first, second, strict=True))


def test_the_images_are_shifted_before_each_step(monkeypatch):
    """After a shift that empties the images all patches are equal."""
    asked = []

    def shifted(key, image, pixels):
        asked.append(pixels)
        return jnp.zeros_like(image)

    monkeypatch.setattr(triplets, "shifted", shifted)
    cnn = LeanCNN((28, 28, 1), 10, 8, nnx.Rngs(0))
    encoder = Encoder(cnn, jnp.ones((2, 28, 28, 1)))
    config = Colocalization(steps=2, jitter=3, margin=0.7)
    images = jnp.ones((1, 4, 84, 84, 1))
    graphdef, params = nnx.split(patch_transformer(config, 0))
    _, loss = triplets.learn(
        config, graphdef, *nnx.split(encoder), images, jax.random.key(0), params
    )
    assert loss == pytest.approx(0.7)
    assert set(asked) == {3}


def test_a_patch_lies_within_the_image():
    rng = np.random.default_rng(0)
    params = jnp.asarray(5 * rng.normal(size=(500, 3)), jnp.float32)
    s, tx, ty = np.asarray(Patch().attention(params)).T
    assert (s >= 0.3).all()
    assert (s <= 0.6).all()
    assert (np.abs(tx) <= 1 - s + 1e-6).all()
    assert (np.abs(ty) <= 1 - s + 1e-6).all()
    grid = Patch().grid(params, (5, 7), align_corners=True)
    assert grid.shape == (500, 5, 7, 2)
    assert np.abs(grid).max() <= 1 + 1e-6
    expected = Attention().grid(jnp.array([0.45, 0, 0]), (5, 7), align_corners=True)
    start = Patch().identity
    ours = Patch().grid(start, (5, 7), align_corners=True)
    np.testing.assert_allclose(ours, expected, atol=1e-6)

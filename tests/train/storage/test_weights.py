"""Weights on disk and their cards: what is loaded is what was stored."""

import hashlib
import json
import shutil

import jax
import numpy as np
import pytest
from conftest import made_once
from flax import nnx
from safetensors import safe_open

import train
from train.__main__ import main
from train.data import load
from train.errors import ResultsError
from train.evaluate import fixed_examples
from train.storage.cards import read_card
from train.storage.weights import load_model

OPTIONS = ["--dataset", "digits", "--steps", "12", "--batch-size", "8"]
OPTIONS += ["--parameters", "100000", "--eval-every", "4"]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """A run of two models."""

    def make(out):
        models = ["--models", "fcn", "st_fcn-affine"]
        arguments = ["run", "rts", *OPTIONS, *models, "--keep", "2", "--out", str(out)]
        assert main(arguments) == 0

    return made_once(tmp_path_factory, "kept", make)


@pytest.fixture
def copied(out, tmp_path):
    """A model's folder that a test may damage."""
    return shutil.copytree(out / "models" / "fcn", tmp_path / "fcn")


def test_a_run_keeps_its_best_states_and_the_last(out):
    names = {path.name for path in (out / "models" / "fcn").iterdir()}
    stems = {"best", "best-2", "last"}
    ends = {".safetensors", ".safetensors.json"}
    assert names == {stem + end for stem in stems for end in ends}
    rows = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    errors = {
        row["step"]: row["validation_error"]
        for row in rows
        if row["model"] == "fcn" and "validation_error" in row
    }
    assert [*errors] == [4, 8, 12]
    ranked = sorted(errors, key=lambda step: (errors[step], -step))
    cards = [
        read_card(out / "models" / "fcn" / f"{stem}.safetensors")
        for stem in ("best", "best-2", "last")
    ]
    assert [card.step for card in cards] == [*ranked[:2], 12]
    assert [card.errors["validation"] for card in cards] == [
        errors[card.step] for card in cards
    ]
    results = json.loads((out / "results.json").read_text())
    (result,) = (m for m in results["models"] if m["model"] == "fcn")
    assert result["step"] == ranked[0]
    assert result["validation_error"] == errors[ranked[0]]
    assert cards[0].errors["test"] == result["test_error"]
    assert "test" not in cards[1].errors  # only the chosen state was tested


def test_a_loaded_model_has_the_stored_test_error(out):
    data = load("digits")
    images, labels = fixed_examples(data.test, "rts")
    for name in ("fcn", "st_fcn-affine"):
        model, card = train.load(out / "models" / name)
        assert card.model == name
        assert card.input_shape == images.shape[1:]
        wrong = np.asarray(model(images)).argmax(axis=1) != labels
        assert 100 * wrong.mean() == pytest.approx(card.errors["test"], abs=1e-3)


def test_the_file_opens_without_this_program(out):
    file = out / "models" / "st_fcn-affine" / "last.safetensors"
    model, card = load_model(file)
    leaves = jax.tree.leaves(nnx.state(model))
    with safe_open(file, "numpy") as stored:
        names = [*stored.keys()]
        assert "classifier.hidden1.kernel" in names
        assert sum(stored.get_tensor(name).size for name in names) == card.parameters
        sums = [float(np.abs(stored.get_tensor(name)).sum()) for name in names]
    ours = sorted(float(np.abs(np.asarray(leaf)).sum()) for leaf in leaves)
    np.testing.assert_allclose(sorted(sums), ours, rtol=1e-5)


def test_the_card_says_what_is_needed_to_use_the_model(out):
    file = out / "models" / "fcn" / "best.safetensors"
    content = json.loads(file.with_name(f"{file.name}.json").read_text())
    assert content["classes"] == [*"0123456789"]
    assert content["input_shape"] == [42, 42, 1]
    assert content["input_range"] == [0, 1]
    assert content["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    origin = content["provenance"]
    assert origin["config"]["steps"] == 12
    assert origin["versions"]["jax"] == jax.__version__
    assert origin["data"]["training_images"] + origin["data"]["validation_images"] == (
        len(load("digits").train.labels)
    )
    assert origin["data"]["validation_images"] == 108


def test_several_models_are_not_chosen_from(out):
    with pytest.raises(ResultsError, match="holds several models") as info:
        load_model(out)
    assert str(out / "models" / "st_fcn-affine") in str(info.value)


def test_what_holds_no_model(tmp_path):
    with pytest.raises(ResultsError, match="no such file or folder"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(ResultsError, match="holds no weights"):
        load_model(tmp_path)
    (tmp_path / "x.txt").write_text("")
    with pytest.raises(ResultsError, match=r"is not a \.safetensors file"):
        load_model(tmp_path / "x.txt")


def flipped(content, at):
    changed = bytearray(content)
    changed[at] ^= 1
    return bytes(changed)


@pytest.mark.parametrize("suffix", ["", ".json"])
def test_no_damage_goes_unnoticed(copied, suffix):
    """A bit flipped anywhere, or a file cut anywhere, in the weights or the card."""
    path = copied / f"best.safetensors{suffix}"
    whole = path.read_bytes()
    places = np.linspace(0, len(whole) - 1, 40).astype(int)
    damages = [flipped(whole, at) for at in places] + [whole[:at] for at in places]
    for content in damages:
        path.write_bytes(content)
        with pytest.raises(ResultsError, match=r"corrupt|not a model card"):
            load_model(copied)
    path.write_bytes(whole)
    load_model(copied)
    path.unlink()
    with pytest.raises(ResultsError, match=r"no such file|holds"):
        load_model(copied / "best.safetensors")


def test_a_card_of_other_weights_is_refused(copied):
    shutil.copy(copied / "last.safetensors", copied / "best.safetensors")
    with pytest.raises(ResultsError, match="its card says"):
        load_model(copied / "best.safetensors")


def test_without_validation_the_last_state_is_kept(tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["run", "r-fcn", *OPTIONS, "--validation", "0", "--out", str(out)]
    assert main(arguments) == 0
    names = {path.name for path in (out / "models" / "fcn").iterdir()}
    assert names == {"last.safetensors", "last.safetensors.json"}
    _, card = load_model(out)
    assert card.chosen_by == "last step"
    assert "validation" not in card.errors
    rows = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    tested = {row["step"]: row["test_error"] for row in rows if "test_error" in row}
    assert [*tested] == [4, 8, 12]
    assert card.errors["test"] == tested[12]


def test_a_cell_of_a_table_keeps_its_weights(tmp_path):
    arguments = ["table", "--out", str(tmp_path), *OPTIONS, "--columns", "r"]
    assert main([*arguments, "--rows", "fcn", "--seeds", "2"]) == 0
    for seed in (0, 1):
        result = json.loads((tmp_path / "r-fcn" / f"seed-{seed}.json").read_text())
        _, card = load_model(tmp_path / "r-fcn" / f"seed-{seed}")
        assert card.config["seed"] == seed
        assert card.errors["test"] == result["models"][0]["test_error"]

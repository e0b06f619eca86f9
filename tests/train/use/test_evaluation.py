"""The command evaluate."""

import json

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from test_predict import MODEL

import train
from train.__main__ import main
from train.data import load_digits
from train.data.validation import with_validation
from train.evaluate import VALIDATION_KEY, fixed_examples
from train.storage.artifacts import read_json
from train.storage.cards import read_card


def evaluated(folder, out, *options):
    arguments = ["evaluate", folder, "--out", out, *options]
    assert main([*map(str, arguments)]) == 0
    return json.loads(out.read_text())


@pytest.mark.parametrize("part", ["test", "validation"])
def test_the_error_is_that_of_the_training(trained, tmp_path, capsys, part):
    folder, out = trained / MODEL, tmp_path / "a.json"
    card = read_card(folder / "best.safetensors")
    document = evaluated(folder, out, "--part", part)
    assert document["error"] == document["error_in_training"] == card.errors[part]
    data = with_validation(load_digits(), card.config["validation"])
    split = data.test if part == "test" else data.validation
    assert document["images"] == len(split.labels)
    printed = capsys.readouterr().out
    assert f"{len(split.labels)} {part} images of digits, task 'rts'" in printed
    assert f"error:  {card.errors[part]:.2f}% (in the training:" in printed


@pytest.mark.slow
def test_the_committed_model_has_the_error_that_the_docs_state(tmp_path, mnist_dir):
    """It was trained on a GPU, whose rounding differs: an image or two may too."""
    weights = ROOT / "docs" / "models" / "rts-st_cnn-affine.safetensors"
    (document,) = (
        of
        for of in read_json(ROOT / "docs" / "results" / "paper-gpu.json")
        if of["config"]["task"] == "rts"
    )
    found = evaluated(weights, tmp_path / "a.json", "--data-dir", mnist_dir)
    assert found["images"] == 10_000
    assert found["error_in_training"] == document["models"][0]["test_error"]
    assert found["error"] == pytest.approx(found["error_in_training"], abs=0.02)


def test_all_numbers_follow_from_the_predictions(trained, tmp_path, capsys):
    folder, out = trained / MODEL, tmp_path / "a.json"
    document = evaluated(folder, out, "--part", "validation")
    model, card = train.load(folder)
    data = with_validation(load_digits(), card.config["validation"])
    images, labels = fixed_examples(data.validation, "rts", VALIDATION_KEY)
    predictions = np.asarray(model(images)).argmax(axis=1)
    counts = np.zeros((10, 10), int)
    for label, prediction in zip(labels, predictions, strict=True):
        counts[label, prediction] += 1
    assert document["confusion"] == counts.tolist()
    assert document["error"] == pytest.approx(
        100 * (predictions != labels).mean(), abs=1e-4
    )
    assert [of["images"] for of in document["classes"]] == counts.sum(axis=1).tolist()
    assert document["training"]["config"] == card.config
    assert document["data"]["sha256"] == card.provenance["data"]["sha256"]
    assert {"command", "device", "versions", "date"} <= {*document}
    *_, heading = (
        line for line in capsys.readouterr().out.splitlines() if "precision" in line
    )
    columns = ["class", "images", "error", "precision", "recall", "confused", "with"]
    assert heading.split() == columns


def test_a_folder_with_the_name_of_the_dataset(trained, tmp_path, monkeypatch):
    (tmp_path / "digits").mkdir()
    monkeypatch.chdir(tmp_path)
    document = evaluated(trained / MODEL, tmp_path / "a.json")
    assert document["data"]["name"] == "digits"


def test_a_folder_of_images_gets_the_models_size(trained, rng, tmp_path):
    for part in ("train", "test"):
        for index in range(20):
            folder = tmp_path / "images" / part / f"{index % 10}"
            folder.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 256, (20, 40), np.uint8)
            Image.fromarray(pixels).save(folder / f"{index}.png")
    options = ("--dataset", tmp_path / "images")
    document = evaluated(trained / MODEL, tmp_path / "a.json", *options)
    assert document["images"] == 20


def test_the_training_images(trained, tmp_path, capsys):
    document = evaluated(trained / MODEL, tmp_path / "a.json", "--part", "train")
    card = read_card(trained / MODEL / "best.safetensors")
    assert document["images"] == card.provenance["data"]["training_images"]
    assert document["error_in_training"] is None
    assert "(in the training:" not in capsys.readouterr().out


def npz(path, rng, size=(28, 28), classes=10):
    labels = np.arange(40) % classes
    names = np.array([f"{i}" for i in range(classes)])
    images = rng.integers(0, 256, (40, *size), np.uint8)
    arrays = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}
    np.savez(path, classes=names, **arrays)
    return path


def test_another_dataset(trained, rng, tmp_path, capsys):
    path = npz(tmp_path / "a.npz", rng)
    document = evaluated(trained / MODEL, tmp_path / "a.json", "--dataset", path)
    assert document["images"] == 40
    assert document["error_in_training"] is None
    assert "(other data)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "messages"),
    [
        ({"classes": 9}, ("10 (0, 1, 2,", "a has 9 (0, 1, 2,")),
        ({"size": (20, 20)}, ("(42, 42, 1)", "(30, 30, 1)")),
    ],
)
def test_a_dataset_that_does_not_fit(trained, rng, tmp_path, capsys, options, messages):
    path = npz(tmp_path / "a.npz", rng, **options)
    assert main(["evaluate", str(trained / MODEL), "--dataset", str(path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    for message in messages:
        assert message in error


def test_the_confusion_matrix_is_drawn(trained, tmp_path, capsys):
    path = tmp_path / "a.png"
    arguments = ["evaluate", str(trained / MODEL), "--figure", str(path)]
    assert main(arguments) == 0
    assert path.read_bytes()[:4] == b"\x89PNG"
    capsys.readouterr()
    assert main(arguments) == 1
    assert "a.png exists" in capsys.readouterr().err
    assert main([*arguments, "--overwrite"]) == 0


def test_a_model_without_a_validation_part(tmp_path, capsys):
    out = tmp_path / "out"
    options = "--dataset digits --parameters 60000 --steps 2 --batch-size 8"
    options += " --validation 0"
    assert main(["run", "r-cnn", *options.split(), "--out", str(out)]) == 0
    arguments = ["evaluate", str(out), "--part", "validation"]
    assert main(arguments) == 1
    assert "without a validation part" in capsys.readouterr().err

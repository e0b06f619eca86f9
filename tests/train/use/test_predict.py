"""The command predict."""

import csv
import itertools
import json

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

import train
from stn_jax.drawing import AROUND, UPPER
from train import plots
from train.__main__ import main
from train.data import load_digits
from train.data.arrays import label_text
from train.evaluate import fixed_examples
from train.storage.cards import read_card
from train.use.predict import two_likeliest

MODEL = "models/st_cnn-affine"


@pytest.fixture(scope="module")
def images():
    """Seven distorted test digits, bytes ``(7, 42, 42)``."""
    data = load_digits()
    few = data.test._replace(images=data.test.images[:7], labels=data.test.labels[:7])
    floats, _ = fixed_examples(few, "rts")
    return np.rint(255 * floats[..., 0].clip(0, 1)).astype(np.uint8)


@pytest.fixture
def pictures(images, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{index}.png")
    return folder


def softmax_of(folder, images):
    """The model's probabilities, with the softmax in NumPy's float64."""
    model, _ = train.load(folder)
    logits = np.asarray(model(images[..., None].astype(np.float32) / 255), np.float64)
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def predicted(*arguments):
    """The status and the entries of the JSON file."""
    out = arguments[-1]
    status = main(["predict", *map(str, arguments[:-1]), "--out", str(out)])
    return status, json.loads(out.read_text())["predictions"]


def probabilities(entries):
    return np.array([[*entry["probabilities"].values()] for entry in entries])


@pytest.mark.parametrize("model", ["st_cnn-affine", "cnn"])
def test_the_probabilities_are_the_softmax_of_the_logits(
    trained, images, pictures, tmp_path, model
):
    """In batches of three, the last padded, and from an array of floats."""
    folder = trained / "models" / model
    expected = softmax_of(folder, images)
    arguments = (folder, pictures, "--batch-size", "3")
    status, entries = predicted(*arguments, tmp_path / "a.json")
    assert status == 0
    np.testing.assert_allclose(probabilities(entries), expected, atol=1e-5)
    np.testing.assert_allclose(probabilities(entries).sum(axis=1), 1, atol=1e-5)
    names = [str(pictures / f"{index}.png") for index in range(7)]
    assert [entry["image"] for entry in entries] == names
    best = [str(index) for index in expected.argmax(axis=1)]
    assert [entry["class"] for entry in entries] == best
    np.savez(tmp_path / "floats.npz", images=images / 255)
    status, entries = predicted(folder, tmp_path / "floats.npz", tmp_path / "b.json")
    np.testing.assert_allclose(probabilities(entries), expected, atol=1e-5)


def test_the_table_and_the_csv_agree(trained, pictures, tmp_path, capsys):
    out = tmp_path / "a.csv"
    arguments = ["predict", str(trained / MODEL), str(pictures), "--out", str(out)]
    assert main(arguments) == 0
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.split() == ["image", "class", "probability", "second", "probability"]
    rows = [*csv.DictReader(out.open(newline=""))]
    assert len(lines) == len(rows) == 7
    for line, row in zip(lines, rows, strict=True):
        of = {name: float(row[f"probability of {name}"]) for name in "0123456789"}
        first, second = sorted(of, key=of.__getitem__, reverse=True)[:2]
        assert line.split() == [
            row["image"],
            first,
            f"{100 * of[first]:.1f}%",
            second,
            f"{100 * of[second]:.1f}%",
        ]
        assert (row["class"], float(row["probability"])) == (first, of[first])
        assert row["error"] == ""


def test_a_corrupt_image_does_not_stop_the_others(trained, pictures, tmp_path, capsys):
    content = (pictures / "1.png").read_bytes()
    (pictures / "1.png").write_bytes(content[: len(content) // 2])
    paths = [pictures / f"{index}.png" for index in range(3)]
    whole = [paths[0], paths[2]]
    status, entries = predicted(trained / MODEL, *paths, tmp_path / "a.json")
    assert status == 1
    assert "1.png cannot be read as an image" in entries[1]["error"]
    printed = capsys.readouterr()
    assert printed.err == f"error: {entries[1]['error']}\n"
    assert len(printed.out.splitlines()) == 3
    status, alone = predicted(trained / MODEL, *whole, tmp_path / "b.json")
    assert status == 0
    assert [entries[0], entries[2]] == alone
    out = tmp_path / "a.csv"
    arguments = ["predict", trained / MODEL, *paths, "--out", out]
    assert main([*map(str, arguments)]) == 1
    rows = [*csv.DictReader(out.open(newline=""))]
    assert [bool(row["error"]) for row in rows] == [False, True, False]
    assert rows[1]["class"] == rows[1]["probability of 3"] == ""


def test_without_usable_images(trained, tmp_path, capsys):
    assert main(["predict", str(trained / MODEL)]) == 1
    assert "name at least one image" in capsys.readouterr().err
    assert main(["predict", str(trained / MODEL), str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "holds no images" in printed.err


def test_another_size_needs_resize(trained, tmp_path, capsys):
    path = tmp_path / "large.png"
    Image.fromarray(np.zeros((84, 60), np.uint8)).save(path)
    assert main(["predict", str(trained / MODEL), str(path)]) == 1
    error = capsys.readouterr().err
    assert "84x60 pixels" in error
    assert "42x42 pixels" in error
    assert "--resize" in error
    assert main(["predict", str(trained / MODEL), str(path), "--resize"]) == 0


def test_nothing_is_replaced_silently(trained, pictures, tmp_path, capsys):
    for option, name in (("--out", "a.csv"), ("--figure", "a.png")):
        (tmp_path / name).write_text("mine")
        arguments = ["predict", str(trained / MODEL), str(pictures / "0.png")]
        arguments += [option, str(tmp_path / name)]
        assert main(arguments) == 1
        assert f"{name} exists" in capsys.readouterr().err
        assert (tmp_path / name).read_text() == "mine"
        assert main([*arguments, "--overwrite"]) == 0
        assert (tmp_path / name).read_bytes() != b"mine"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--out a.txt", "out must end in .csv or .json"),
        ("--figure a.gif", "figure must end in .png"),
        ("--batch-size 0", "batch_size must be at least 1"),
        ("--data-limit 0", "data_limit must be more than 0"),
    ],
)
def test_options_of_predict_that_cannot_be(options, message, capsys):
    with pytest.raises(SystemExit) as info:
        main(["predict", "model", "a.png", *options.split()])
    assert info.value.code == 2
    printed = capsys.readouterr()
    assert message in " ".join((printed.out + printed.err).replace("│", "").split())


@pytest.mark.parametrize("name", ["none", "none.safetensors", "none.stablehlo"])
def test_a_model_that_is_not_there(name, tmp_path, capsys):
    assert main(["predict", str(tmp_path / name), "a.png"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "no such file" in error


def test_the_figure(trained, images, pictures, tmp_path, monkeypatch):
    """The outlines are those of the model's transformations of these images."""
    drawn = []

    def spy(*arguments, draw=plots.prediction_figure):
        drawn.append((arguments, draw(*arguments)))
        return drawn[-1][1]

    monkeypatch.setattr(plots, "prediction_figure", spy)
    path = tmp_path / "a.png"
    for index in range(7, 12):
        Image.fromarray(images[0]).save(pictures / f"{index:02}.png")
    arguments = ["predict", trained / MODEL, pictures, "--figure", path]
    assert main([*map(str, arguments)]) == 0
    assert path.read_bytes()[:4] == b"\x89PNG"
    (((_, shown, params, size, titles, captions), figure),) = drawn
    order = ["0.png", "07.png", "08.png", "09.png", "1.png", "10.png"]
    assert [*titles[:6]] == order
    assert len(shown) == 10  # of twelve
    model, _ = train.load(trained / MODEL)
    floats = images[0][None, ..., None].astype(np.float32) / 255
    expected = np.asarray(model.transformer0.localize(floats))
    np.testing.assert_allclose(params[0, :1], expected, atol=1e-5)
    assert size == (28, 28)
    (best,) = softmax_of(trained / MODEL, images[:1])
    assert captions[0] == f"{best.argmax()}\n{100 * best.max():.1f}%"
    first = figure.axes[0]
    assert [line.get_color() for line in first.lines] == [AROUND, UPPER]


def test_the_figure_of_a_model_without_transformers(trained, pictures, tmp_path):
    path = tmp_path / "a.png"
    arguments = ["predict", trained / "models" / "cnn", pictures, "--figure", path]
    assert main([*map(str, arguments)]) == 0
    assert Image.open(path).size[0] > 500


@pytest.mark.slow
def test_the_cards_normalization_is_applied(tmp_path, images):
    """The tutorial's model takes standardized images."""
    out = tmp_path / "out"
    options = ["--dataset", "digits", "--steps", "2", "--batch-size", "8", "--out"]
    assert main(["run", "tutorial", *options, str(out)]) == 0
    folder = out / MODEL
    card = read_card(folder / "best.safetensors")
    assert (card.mean, card.std) == (0.1307, 0.3081)
    np.savez(tmp_path / "a.npz", images=images[:, :28, :28])
    _, entries = predicted(folder, tmp_path / "a.npz", tmp_path / "a.json")
    model, _ = train.load(folder)
    x = images[:, :28, :28, None] / 255
    logits = np.asarray(model(((x - 0.1307) / 0.3081).astype(np.float32)), np.float64)
    exponentials = np.exp(logits)
    expected = exponentials / exponentials.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities(entries), expected, atol=1e-5)


def test_the_usage_names_the_commands(capsys):
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    source = (ROOT / "train" / "__main__.py").read_text()
    for command in ("predict", "export", "evaluate", "summary", "run", "compare"):
        assert f'case ["{command}"' in source
        assert f"\n  {command} " in printed


# labels with several places


def test_the_two_likeliest_numbers_of_all(rng):
    """Against a list of all numbers of three places with four classes."""
    for _ in range(20):
        places = rng.dirichlet(np.ones(4), 3)
        every = {
            label: np.prod([places[at, c] for at, c in enumerate(label)])
            for label in itertools.product(range(4), repeat=3)
        }
        expected = sorted(every, key=every.get, reverse=True)[:2]
        found = two_likeliest(places)
        assert [tuple(label) for label, _ in found] == expected
        for (_, chance), label in zip(found, expected, strict=True):
            assert chance == pytest.approx(every[label])


def test_a_label_in_words():
    classes = ("none", *"0123456789")
    assert label_text(np.array([3, 1, 10, 0, 0]), classes) == "209"
    assert label_text(np.array([0, 0, 0, 0, 0]), classes) == ""
    assert label_text(np.int32(1), ("cat", "dog")) == "dog"

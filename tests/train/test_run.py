"""Runs from the command line."""

import json
import re
import shlex

import jax
import numpy as np
import pytest
from conftest import ROOT

from train import saving
from train.__main__ import main
from train.data import load, sha256_of
from train.data.validation import with_validation
from train.storage.checkpoints import Checkpoint
from train.storage.folder import LOCK, MARKER


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
    files = {path.name for path in out.iterdir()} - {MARKER, LOCK}
    pictures = {"figure.png", "curves.png"}
    assert files == {"metrics.jsonl", "results.json", "models", "examples", *pictures}
    rows = [
        json.loads(line)
        for line in (out / "metrics.jsonl").read_text().split("\n")[:-1]
    ]
    assert {row["model"] for row in rows} == set(models)
    page = (ROOT / "docs" / "runs.md").read_text().split("## metrics.jsonl")[1]
    documented = {*re.findall(r"^\| `(\w+)` \|", page, re.M)}
    assert {key for row in rows for key in row} == documented - {
        "skipped",
        "test_error",
    }
    document = json.loads((out / "results.json").read_text())
    assert document["config"]["steps"] == 6
    assert document["data"] == {
        "name": "mine",
        "training_images": 37,
        "validation_images": 3,
        "test_images": 21,
        "sha256": sha256_of(with_validation(load(str(data)), 1 / 12)),
    }
    assert document["versions"]["jax"] == jax.__version__
    for model, name in zip(document["models"], models, strict=True):
        check_chosen(model, [row for row in rows if row["model"] == name])
    printed = capsys.readouterr().out
    for text in ("ST-CNN affine", "parameters", "seconds", "figure.png", "curves.png"):
        assert text in printed
    # the command that it ends with works
    (command,) = re.findall(
        r"^use this model: \S*python\S* -m train (.*)$", printed, re.M
    )
    assert main(shlex.split(command)) == 0
    assert capsys.readouterr().out.count(".png") == 3  # those held out


def check_chosen(model, rows):
    """The state with the lowest validation error is the result, and is tested once."""
    errors = {r["step"]: r["validation_error"] for r in rows if r["step"] in (3, 6)}
    assert model["validation_error"] == min(errors.values())
    assert model["validation_error"] == errors[model["step"]]
    assert sum("validation_error" in row for row in rows) == 2
    assert not any("test_error" in row for row in rows)
    assert model["parameters"] <= 400_000


def test_results_are_replaced_only_with_overwrite(tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["run", "r-fcn", "--dataset", "digits", *OPTIONS, "--out", str(out)]
    assert main(arguments) == 0
    before = (out / "results.json").read_bytes()
    assert main(arguments) == 1
    assert "holds the results of an earlier run" in capsys.readouterr().err
    assert (out / "results.json").read_bytes() == before
    assert main([*arguments, "--overwrite", "--seed", "1"]) == 0
    document = json.loads((out / "results.json").read_text())
    assert document["config"]["seed"] == 1


def test_what_tensorboard_and_profilers_read(tmp_path, capsys):
    out = tmp_path / "out"
    words = ["run", "r-fcn", "--dataset", "digits", "--parameters", "60000"]
    words += ["--steps", "40", "--batch-size", "8", "--out", str(out)]
    assert main([*words, "--tensorboard", "--profile", "3"]) == 0
    (events,) = (out / "tensorboard" / "fcn").iterdir()
    content = events.read_bytes()
    for name in (b"loss", b"validation_error", b"images_per_second"):
        assert name in content
    profiles = {path.name for path in (out / "profile" / "fcn").rglob("*.*")}
    assert "perfetto_trace.json.gz" in profiles
    assert any(name.endswith(".xplane.pb") for name in profiles)
    # the program knows them as its own
    assert main([*words, "--overwrite"]) == 0
    assert not (out / "tensorboard").exists()
    assert not (out / "profile").exists()


@pytest.mark.slow
def test_results_go_under_runs_by_default(tmp_path, rng, monkeypatch):
    data = npz(tmp_path / "mine.npz", rng, channels=2)
    monkeypatch.chdir(tmp_path)
    assert main(["run", "rts-cnn", "--dataset", str(data), *OPTIONS]) == 0
    assert (tmp_path / "runs" / "rts-cnn" / "figure.png").exists()


def test_a_run_that_was_stopped_continues_with_resume(tmp_path, monkeypatch, capsys):
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
    assert "Continue it with --resume" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        patch.setattr(saving, "sampler", lambda: "kernel native 0123")
        assert main([*arguments, "--resume"]) == 1
    error = capsys.readouterr().err
    assert "sampler is plain JAX, not kernel native 0123 (STN_JAX_CPU=off" in error
    assert main([*arguments, "--resume"]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["sampler"] == "plain JAX"
    rows = (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == [*range(1, 9)]
    assert not (tmp_path / "out" / "checkpoints").exists()
    # a run that has ended is not begun again
    assert main([*arguments, "--resume"]) == 1
    assert "holds the results of an earlier run" in capsys.readouterr().err


@pytest.mark.slow
def test_a_collapse_is_reported(tmp_path, capsys):
    """An absurd learning rate moves the transformer off the image at once."""
    arguments = ["run", "r-st_cnn-affine", "--dataset", "digits", "--steps", "30"]
    arguments += ["--batch-size", "8", "--parameters", "60000"]
    arguments += ["--localization-learning-rate", "30", "--out", str(tmp_path / "x")]
    assert main(arguments) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "The transformer of ST-CNN affine has collapsed: " in printed
    assert "its output is blank for" in printed or "of its grid lies outside" in printed
    rows = (tmp_path / "x" / "metrics.jsonl").read_text().splitlines()
    last = json.loads(rows[-1])
    assert last["blank"] > 50 or last["outside"] > 90


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

"""The provenance of results."""

import subprocess

import pytest
from conftest import ROOT

from train.errors import ResultsError
from train.storage import artifacts, circumstances


def git(*words):
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


def test_the_commit_is_that_of_the_checkout():
    if git("rev-parse", "--show-toplevel") != str(ROOT):
        pytest.skip("not in a checkout of its own")
    commit = circumstances.commit()
    assert commit.removesuffix("+") == git("rev-parse", "HEAD")
    changes = git("status", "--porcelain", "--untracked-files=no")
    assert commit.endswith("+") == bool(changes)


def test_no_commit_without_git(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert circumstances.commit() is None


def test_numbers_that_json_does_not_have_are_null():
    row = {"model": "cnn", "step": 3, "loss": float("nan"), "error": float("inf")}
    line = artifacts.json_line(row | {"seconds": 0.5})
    assert '"loss": null, "error": null, "seconds": 0.5' in line


def test_results_must_say_how_many_images_they_were_validated_on(tmp_path):
    path = ROOT / "docs" / "results" / "paper-gpu.json"
    document = artifacts.read_json(path)[0]
    assert artifacts.checked_document(document, path) is document
    del document["data"]["validation_images"]
    with pytest.raises(ResultsError, match=r"does not hold the results.*validation_im"):
        artifacts.checked_document(document, path)

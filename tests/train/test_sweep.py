"""Tables of trainings and their reports, from the command line."""

import jax
import numpy as np
import pytest
from conftest import mapped_areas
from trainings import few

from train import loop
from train.__main__ import main
from train.configs import Training
from train.data import load
from train.errors import ConfigError
from train.experiments import CONFIGS
from train.specs import ModelSpec
from train.storage import artifacts
from train.storage.folder import LOCK, MARKER
from train.sweep import Sweep


@pytest.fixture(scope="module")
def digits():
    return few(load("digits"), 60)


OPTIONS = ["--dataset", "digits", "--steps", "3", "--batch-size", "8"]


OPTIONS += ["--parameters", "60000", "--columns", "r", "--rows", "fcn"]


def test_a_table_is_trained_cell_by_cell_and_reported(tmp_path, capsys):
    arguments = ["table", "--out", str(tmp_path), *OPTIONS, "--seeds", "2"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "cells: 1, seeds: 2, trainings left: 2, steps of each: 3," in " ".join(
        printed.split()
    )
    documents = [
        artifacts.read_json(tmp_path / "r-fcn" / f"seed-{seed}.json")
        for seed in range(2)
    ]
    errors = [document["models"][0]["test_error"] for document in documents]
    mean, spread = np.mean(errors), np.std(errors, ddof=1)
    assert f"| FCN | {mean:.2f} ± {spread:.2f} / 2.1 |" in printed
    # finished trainings are not repeated; more seeds are added
    before = (tmp_path / "r-fcn" / "seed-0.json").read_bytes()
    areas = mapped_areas()
    assert main([*arguments[:-1], "3"]) == 0
    if areas is not None:  # a training's programs take hundreds of areas of memory
        assert mapped_areas() - areas < 100
    assert "seeds: 3, trainings left: 1," in capsys.readouterr().out
    assert (tmp_path / "r-fcn" / "seed-0.json").read_bytes() == before
    files = {path.name for path in tmp_path.iterdir()} - {MARKER, LOCK}
    assert files == {"r-fcn", "report.md", "report.png", "report.json", "looks-r.png"}
    # the report is made from the stored results alone, or from one file of them
    assert main(["report", str(tmp_path)]) == 0
    whole = capsys.readouterr().out
    assert main(["report", str(tmp_path / "report.json")]) == 0
    assert capsys.readouterr().out == whole
    # other settings are refused in this folder
    assert main([*arguments, "--steps", "4"]) == 1
    assert "steps is 3, not 4" in capsys.readouterr().err
    assert main([*arguments, "--elastic", "0.5"]) == 1
    assert "elastic is 0.0, not 0.5" in capsys.readouterr().err
    assert main([*arguments, "--clip", "1", "--learning-rate", "0.1"]) == 1
    error = capsys.readouterr().err
    assert "learning_rate is 0.002, not 0.1, clip is None, not 1.0" in error


@pytest.mark.slow
def test_a_table_that_runs_out_of_memory_trains_fewer_seeds_at_once(
    tmp_path, digits, monkeypatch, capsys
):
    """This machine has memory for one training."""
    at_once, fit = [], loop._fit

    def fit_one(config, spec, data, on_row, seeds, *others):
        at_once.append(len(seeds))
        if len(seeds) > 1:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return fit(config, spec, digits, on_row, seeds, *others)

    monkeypatch.setattr(loop, "_fit", fit_one)
    arguments = ["table", "--out", str(tmp_path), *OPTIONS, "--seeds", "3"]
    assert main([*arguments, "--together", "3"]) == 0
    assert at_once == [3, 1, 1, 1]
    assert "out of memory; seeds in parallel from here on: 1" in capsys.readouterr().out


def test_errors_of_tables(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 1
    assert "holds no results of python -m train table" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="seeds must be at least 1; got 0"):
        Sweep(out=tmp_path, seeds=0)


def test_the_settings_of_a_cell(tmp_path):
    """The options given come before the task's default."""
    fcn = ModelSpec("fcn")
    plain = Sweep(out=tmp_path)
    assert plain.config("r", fcn).outside_penalty == 0
    assert plain.config("addition", fcn).outside_penalty == 1
    assert CONFIGS["addition-2xst_fcn-tps"][1].outside_penalty == 1
    given = Training(outside_penalty=0, clip=2, learning_rate=0.5)
    config = Sweep(out=tmp_path, training=given).config("addition", fcn)
    assert (config.outside_penalty, config.clip, config.learning_rate) == (0, 2, 0.5)

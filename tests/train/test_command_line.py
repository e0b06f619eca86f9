"""The command line: the list, the usage, options and their defaults."""

import ast
import inspect
import os
import subprocess
import sys
from itertools import pairwise

import pytest
from conftest import ROOT
from trainings import CNN

from train.__main__ import main
from train.configs import Colocalization, Config, Source, Training
from train.errors import ConfigError
from train.experiments import CONFIGS
from train.specs import MODELS, ModelSpec
from train.sweep import Sweep


def test_the_list_names_every_configuration(capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(CONFIGS)


def test_a_closed_pipe_is_no_error():
    command = [sys.executable, "-m", "train", "list"]
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(command, stdout=write_end, stderr=subprocess.PIPE, cwd=ROOT)
    os.close(write_end)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("arguments", "status"),
    [([], 2), (["--help"], 0), (["bake"], 2), (["list", "r"], 2), (["compare"], 2)],
)
def test_usage(arguments, status, capsys):
    assert main(arguments) == status
    printed = capsys.readouterr()
    text, other = printed.err, printed.out
    if status == 0:  # help that was asked for goes to stdout
        text, other = other, text
    assert text.startswith("usage: python -m train")
    assert other == ""


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
        (["r-cnn", "--validation", "1"], "validation must be from 0 to less than 1"),
        (["r-cnn", "--keep", "0"], "keep must be at least 1"),
        (["r-cnn", "--profile", "-1"], "profile must be 0 or more"),
        (["r-cnn", "--checkpoint-minutes", "-1"], "checkpoint_minutes must be 0 or"),
        (["r-cnn", "--on-nan", "hope"], "skip"),
        (["r-cnn", "--outside-penalty", "-1"], "outside_penalty must be 0 or more"),
        (["r-cnn", "--image-size", "0", "3"], "image_size must be at least 1 1"),
        (["r-cnn", "--data-limit", "nan"], "data_limit must be more than 0"),
        (["colocalization", "--data-limit", "0"], "data_limit must be more than 0"),
    ],
)
def test_options_that_cannot_be(arguments, message, capsys):
    with pytest.raises(SystemExit) as info:
        main(["run", *arguments])
    assert info.value.code == 2
    printed = capsys.readouterr()
    assert message in printed.out + printed.err


def test_the_schedule_sets_the_defaults_of_others(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "train.run.run_experiment", lambda name, config, _: asked.append(config)
    )
    assert main(["run", "r-cnn", "--schedule", "paper", "--batch-size", "32"]) == 0
    (config,) = asked
    assert (config.steps, config.batch_size) == (150_000, 32)
    assert config.learning_rate == 0.01


def test_unknown_names_get_a_suggestion(capsys):
    assert main(["run", "r-st_cnn"]) == 1
    error = capsys.readouterr().err
    assert "there is no configuration 'r-st_cnn': try r-st_cnn-" in error


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": 0},
        {"images": 1},
        {"jitter": -1},
        {"digits": ()},
        {"digits": (-1,)},
        {"clutter": ()},
        {"seed": -1},
        {"overwrite": True, "resume": True},
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


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", {"steps": 5000, "outside_penalty": None}),
        ("--steps 7 --batch-size 3", {"steps": 7, "batch_size": 3}),
        ("--schedule paper --steps 9", {"steps": 9, "learning_rate": 0.01}),
        ("--network deep --elastic 0.5 --clip 1", {"network": "deep", "elastic": 0.5}),
        ("--outside-penalty 0 --bound None", {"outside_penalty": 0, "bound": None}),
        ("--dataset digits --eval-every 2500", {"dataset": "digits"}),
        ("--validation 0 --checkpoint-minutes 5", {"checkpoint_minutes": 5}),
        (
            "--keys x_train=a y_train=b --image-size 3 4 --data-limit 2",
            {"keys": ("x_train=a", "y_train=b"), "image_size": (3, 4)},
        ),
    ],
)
def test_the_options_of_a_table(tmp_path, monkeypatch, options, expected):
    asked = []
    monkeypatch.setattr(
        "train.sweep.run_sweep", lambda sweep, _: asked.append(sweep) or tmp_path
    )
    monkeypatch.setattr("train.report.write_report", lambda path: "")
    cells = "--columns r addition --rows cnn st_cnn-tps --seeds 1 --together 2"
    arguments = f"table --out {tmp_path} {cells} {options}"
    assert main(arguments.split()) == 0
    (sweep,) = asked
    training = {name: getattr(sweep.training, name) for name in expected}
    assert training == expected
    assert (sweep.seeds, sweep.together) == (1, 2)
    assert sweep.out == tmp_path
    assert sweep.cells == [
        ("r", CNN),
        ("r", ModelSpec("cnn", "tps", 1)),
        ("addition", CNN),
    ]


@pytest.mark.parametrize("command", ["run demo", "table"])
def test_the_help_lists_the_models(command, capsys):
    with pytest.raises(SystemExit) as info:
        main([*command.split(), "--help"])
    assert info.value.code == 0
    printed = "".join(capsys.readouterr().out.replace("│", "").split())
    assert "{" + ",".join(spec.name for spec in MODELS) + "}" in printed


@pytest.mark.parametrize("kind", [Source, Training, Config, Colocalization, Sweep])
def test_every_option_has_help(kind):
    """The command line takes an option's help from the text below its field."""
    (definition,) = ast.parse(inspect.getsource(kind)).body
    for field, below in pairwise(definition.body):
        if isinstance(field, ast.AnnAssign) and field.target.id != "training":
            assert isinstance(below, ast.Expr), field.target.id
            assert below.value.value.strip().endswith("."), field.target.id

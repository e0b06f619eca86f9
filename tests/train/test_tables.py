"""Tables of stored results."""

import json

from trainings import CNN, config

from train import tables
from train.__main__ import main
from train.configs import (
    Config,
    settings_of,
    with_defaults,
)
from train.specs import ModelSpec
from train.storage import artifacts

DATA = {"name": "mnist", "test_images": 10, "validation_images": 5}


def test_settings_that_a_stored_run_lacks_have_their_defaults():
    config = settings_of(Config((ModelSpec("fcn"),), "r"))
    without = {name: x for name, x in config.items() if name != "elastic"}
    assert with_defaults(without) == config
    model = {"model": "fcn", "parameters": 7, "seconds": 60.0}
    model |= {"test_error": 1.0, "blank": 0.0, "outside": 0.0}
    shared = {"data": DATA, "date": "2026-01-01"}
    shared |= {"device": "an abacus", "versions": {}, "models": [model]}
    text = tables.task_tables([{**shared, "config": c} for c in (config, without)])
    assert text.count("| model |") == 1
    assert "| FCN | 1.00 ± 0.00 / 2.1 |" in text
    warped = {**shared, "config": {**config, "elastic": 0.5}}
    text = tables.task_tables([{**shared, "config": without}, warped])
    assert text.count("| model |") == 2
    assert "128 images, elastic 0.5. The state with" in text


def test_the_table_says_what_is_missing():
    config = Config((CNN,), "r", steps=5, batch_size=2, outside_penalty=0.5)
    shared = {
        "config": settings_of(config),
        "data": DATA,
        "date": "2026-01-01",
        "device": "an abacus",
        "versions": {"jax": "1"},
    }
    models = [
        {"model": "cnn", "test_error": 1.0, "parameters": 7, "seconds": 3600.0}
        | {"blank": 80.0, "outside": 1.0}
    ]
    other = {**shared, "config": {**shared["config"], "task": "addition"}}
    fcn = [{**models[0], "model": "2xst_fcn-tps", "blank": 0.0}]
    text = tables.task_tables([{**shared, "models": models}, {**other, "models": fcn}])
    assert "| model | R | ADDITION |" in text
    assert "| CNN | 1.00 (collapsed) / 1.2 | not trained / 14.7 |" in text
    assert "| 2xST-FCN TPS |  | 1.00 / 5.8 |" in text
    assert "ours / the paper's: seed 0, on 10 test images of mnist; lean" in text
    assert "5 steps of 2 images, outside penalty 0.5. The state with the" in text
    assert "and was tested once. 2 trainings of 2.0 hours" in text
    assert "together, on an abacus; 2026-01-01; jax 1." in text


def test_runs_share_a_row_if_they_differ_only_in_the_seed(tmp_path, capsys):
    for seed, error in enumerate([1.0, 2.0, 3.0, 9.0]):
        setup = settings_of(config(seed=seed))
        setup["clip"] = 1.0 if error == 9 else None
        model = {"model": "cnn", "parameters": 7, "test_error": error, "seconds": 10.0}
        if seed == 0:  # stored before these settings existed
            del setup["keys"], setup["image_size"], setup["elastic"]
        document = {
            "config": setup,
            "data": DATA,
            "models": [model | {"blank": 0.0, "outside": 0.0}],
            "date": "2026-01-01",
            "device": "an abacus",
            "versions": {},
        }
        (tmp_path / f"{seed}").mkdir()
        (tmp_path / f"{seed}" / artifacts.RESULTS).write_text(json.dumps(document))
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


def test_a_result_says_by_which_images_it_was_chosen():
    """Results that were stored before there was a validation part: the test set."""
    model = {"model": "cnn", "parameters": 7, "seconds": 60.0}
    model |= {"test_error": 1.0, "blank": 0.0, "outside": 0.0}
    shared = {"data": DATA, "date": "2026-01-01", "device": "an abacus"}
    shared |= {"versions": {}, "models": [model]}
    settings = settings_of(Config((CNN,), "r"))
    today = tables.task_tables([{**shared, "config": settings}])
    assert "lowest error on 5 validation images is reported, and was tested" in today
    del settings["validation"]
    old = tables.task_tables([{**shared, "config": settings}])
    explicit = {**shared, "config": {**settings, "validation": 0.0}}
    for text in (old, tables.task_tables([explicit])):
        assert "settings were chosen on the test set" in text
    both = tables.task_tables([{**shared, "config": settings}, explicit])
    assert both.count("| model |") == 1

"""Models as data, and their names."""

import ast

import pytest
from conftest import ROOT

from train.errors import ConfigError
from train.specs import MODELS, ModelSpec

SPECS = {
    "fcn": (ModelSpec("fcn"), "FCN"),
    "cnn": (ModelSpec("cnn"), "CNN"),
    "st_fcn-affine": (ModelSpec("fcn", "affine", 1), "ST-FCN affine"),
    "st_fcn-projective": (ModelSpec("fcn", "projective", 1), "ST-FCN projective"),
    "st_fcn-tps": (ModelSpec("fcn", "tps", 1), "ST-FCN TPS"),
    "st_cnn-affine": (ModelSpec("cnn", "affine", 1), "ST-CNN affine"),
    "st_cnn-projective": (ModelSpec("cnn", "projective", 1), "ST-CNN projective"),
    "st_cnn-tps": (ModelSpec("cnn", "tps", 1), "ST-CNN TPS"),
    "2xst_fcn-affine": (ModelSpec("fcn", "affine", 2), "2xST-FCN affine"),
    "2xst_fcn-projective": (ModelSpec("fcn", "projective", 2), "2xST-FCN projective"),
    "2xst_fcn-tps": (ModelSpec("fcn", "tps", 2), "2xST-FCN TPS"),
    "multi_st_cnn-affine": (
        ModelSpec("cnn", "affine", 1, on_features=True),
        "Multi ST-CNN affine",
    ),
    "2xst_cnn-attention": (ModelSpec("cnn", "attention", 2), "2xST-CNN attention"),
    "4xst_cnn-attention": (ModelSpec("cnn", "attention", 4), "4xST-CNN attention"),
}


def test_these_are_all_models():
    assert [spec.name for spec in MODELS] == [*SPECS]


@pytest.mark.parametrize("name", SPECS)
def test_a_name_is_parsed_and_made(name):
    spec, label = SPECS[name]
    assert ModelSpec.parse(name) == spec
    assert spec.name == name
    assert spec.label == label


@pytest.mark.parametrize("name", ["", "vit", "st_cnn", "cnn-affine", "3xst_cnn-tps"])
def test_unknown_names(name):
    with pytest.raises(ConfigError, match=rf"no model '{name}'; the models are fcn, "):
        ModelSpec.parse(name)


@pytest.mark.parametrize(
    "fields",
    [
        ("cnn", "affine"),
        ("cnn", None, 1),
        ("fcn", "affine", 1, True),
        ("cnn", None, 0, True),
        ("cnn", "tps", 2, True),
    ],
)
def test_specs_that_cannot_be(fields):
    with pytest.raises(ConfigError):
        ModelSpec(*fields)


def test_functions_of_different_modules_have_different_names():
    modules = {}
    for path in (ROOT / "train").rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef):
                modules.setdefault(node.name, []).append(path.stem)
    assert {n: where for n, where in modules.items() if len(where) > 1} == {}

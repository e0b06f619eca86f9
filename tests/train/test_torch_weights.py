"""The PyTorch tutorial's network with PyTorch's weights; nothing here needs PyTorch."""

import numpy as np
import pytest
from conftest import ROOT
from safetensors.numpy import save_file
from trainings import ST_CNN

from train.errors import DataError
from train.models import build
from train.torch_weights import read_state_dict, tutorial

FIXTURES = ROOT / "tests" / "fixtures"


@pytest.fixture(scope="module")
def state_dict():
    return read_state_dict(FIXTURES / "tutorial.npz")


def test_the_logits_are_pytorchs(state_dict):
    expected = np.load(FIXTURES / "tutorial_logits.npz")
    logits = tutorial(state_dict)(expected["images"])
    np.testing.assert_allclose(logits, expected["logits"], atol=2e-6)


def test_the_initial_weights_are_as_in_pytorch():
    """Uniform within 1 / sqrt(the inputs of each output)."""
    sizes = {"canvas": (28, 28, 1), "size": (28, 28), "num_classes": 10}
    model = build(ST_CNN, "tutorial", **sizes, parameters=400_000, seed=0)
    transformer, classifier = model.transformer0, model.classifier
    layers = {
        49: transformer.localization.conv1,
        200: transformer.localization.conv2,
        90: transformer.localization.dense,
        25: classifier.conv1,
        250: classifier.conv2,
        320: classifier.dense,
        50: classifier.logits,
    }
    for inputs, layer in layers.items():
        assert np.prod(layer.kernel.shape[:-1]) == inputs
        bound = inputs**-0.5
        assert 0.95 * bound < np.abs(layer.kernel[...]).max() <= bound
        assert 0.3 * bound < np.abs(layer.bias[...]).max() <= bound


def test_safetensors_are_read_too(state_dict, tmp_path):
    save_file(state_dict, tmp_path / "tutorial.safetensors")
    arrays = read_state_dict(tmp_path / "tutorial.safetensors")
    assert arrays.keys() == state_dict.keys()
    for name, array in state_dict.items():
        np.testing.assert_array_equal(arrays[name], array)


def test_errors_name_what_is_not_the_tutorials(state_dict):
    missing = {k: v for k, v in state_dict.items() if k != "fc2.bias"}
    with pytest.raises(DataError, match=r"missing are \['fc2\.bias'\]"):
        tutorial(missing)
    with pytest.raises(DataError, match=r"unknown are \['fc3\.bias'\]"):
        tutorial({**state_dict, "fc3.bias": np.zeros(1)})
    expected = r"fc1\.weight: expected floats of the shape \(50, 320\), got"
    for shape in ((50, 320, 1), (50,), (), (50, 321), (320, 50)):
        wrong = {**state_dict, "fc1.weight": np.zeros(shape, np.float32)}
        with pytest.raises(DataError, match=expected):
            tutorial(wrong)
    for kind in (complex, str, int, bool):
        wrong = {**state_dict, "fc1.weight": np.zeros((50, 320), kind)}
        with pytest.raises(DataError, match=expected):
            tutorial(wrong)
    for value in (np.nan, np.inf):
        wrong = {**state_dict, "fc2.bias": np.full(10, value, np.float32)}
        with pytest.raises(DataError, match=r"fc2\.bias holds NaN or infinite"):
            tutorial(wrong)


@pytest.mark.parametrize("name", ["none.npz", "none.safetensors"])
def test_files_that_cannot_be_read(name, tmp_path):
    with pytest.raises(DataError, match=r"no such file|cannot be read"):
        read_state_dict(tmp_path / name)
    (tmp_path / name).write_bytes(b"this is text")
    with pytest.raises(DataError, match="cannot be read"):
        read_state_dict(tmp_path / name)

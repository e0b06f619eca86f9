"""The command summary."""

import jax
import numpy as np
import pytest

from train.__main__ import main
from train.configs import Config
from train.models import build, count_parameters
from train.specs import MODELS, ModelSpec
from train.use import summary
from train.use.summary import cost_of, known_shapes, layers_of


def model_of(name, canvas=(42, 42, 1), network="lean"):
    return build(
        ModelSpec.parse(name),
        network,
        canvas=canvas,
        size=(28, 28),
        num_classes=10,
        parameters=200_000,
        bound=None,
        seed=0,
    )


def layers(model, canvas=(42, 42, 1)):
    return layers_of(model, jax.ShapeDtypeStruct((1, *canvas), np.float32))


@pytest.mark.parametrize("name", [spec.name for spec in MODELS])
def test_the_layers_hold_all_parameters(name):
    has_windows = name.endswith("attention")
    canvas = (64, 64, 3) if has_windows else (42, 42, 1)
    model = model_of(name, canvas, "cub_lean" if has_windows else "lean")
    found = layers(model, canvas)
    assert sum(layer.parameters for layer in found) == count_parameters(model)
    assert len({layer.path for layer in found}) == len(found)
    assert None not in [layer.output for layer in found]
    last = "classifier.linear" if has_windows else "classifier.logits"
    assert found[-1].path == last or name in ("fcn", "cnn")
    assert found[-1].output == (10,)


def test_the_layers_of_a_model():
    """In the order of the calls; a convolution's parameters are counted by hand."""
    rows = {layer.path: layer for layer in layers(model_of("st_cnn-affine"))}
    transformer, first = [*rows.values()][:2]
    assert (transformer.kind, transformer.output) == ("BoundedTransformer", (28, 28, 1))
    assert first.path.startswith("transformer0.localization")
    conv = rows["classifier.conv1"]
    assert (conv.kind, conv.output) == ("Conv", (14, 14, 32))
    assert conv.parameters == 5 * 5 * 1 * 32 + 32
    assert rows["transformer0.regression"].output == (6,)


def test_the_classes_are_as_before():
    """The recording wraps them, and takes the wrapping off, also after an error."""
    model = model_of("cnn")
    before = {kind: vars(kind)["__call__"] for kind in type(model).__mro__[:1]}
    layers(model)
    with pytest.raises(ValueError, match="broadcast"):
        layers(model, canvas=(5,))
    assert {kind: vars(kind)["__call__"] for kind in before} == before


def test_the_costs_grow_with_the_batch():
    data = known_shapes("digits")
    model = model_of("cnn")
    images = jax.ShapeDtypeStruct((1, 42, 42, 1), np.float32)
    small, large = (
        cost_of(
            Config((ModelSpec("cnn"),), "rts", batch_size=size), model, images, data
        )
        for size in (4, 16)
    )
    assert small.forward_flops == large.forward_flops
    # the two convolutions and the two products, each multiplies and adds
    least = 2 * (21 * 21 * 32 * 25 + 11 * 11 * 64 * 9 * 32)
    assert least < small.forward_flops < 3 * least
    assert 2.5 < large.step_flops / small.step_flops < 4.5
    assert large.temporaries > small.temporaries
    # parameters and Adam's two moments, and more for a larger batch
    floats = 3 * 4 * count_parameters(model)
    assert floats < small.arguments < 1.1 * floats
    assert large.arguments - small.arguments == 12 * (28 * 28 + 4)


def test_nothing_is_loaded_for_known_datasets(monkeypatch, capsys):
    def refuse(source):
        raise AssertionError("the dataset was loaded")

    monkeypatch.setattr(summary, "load_source", refuse)
    options = "--models cnn --batch-size 4 --parameters 60000"
    assert main(["summary", "r", *options.split(), "--dataset", "mnist"]) == 0
    printed = capsys.readouterr().out
    for text in ("CNN: images (28, 28, 1), 10 classes", "conv1", "4 images"):
        assert text in printed
    for text in ("floating point operations", "megabytes", "parameters, optimizer"):
        assert text in printed


@pytest.mark.parametrize(
    ("options", "heading"),
    [
        ("svhn64 --network svhn_lean", "CNN: images (64, 64, 3), 11 classes"),
        (
            "cub224 --network cub_lean --image-size 32 32",
            "CNN: images (28, 28, 3), 200 classes",
        ),
    ],
)
def test_the_shapes_of_svhn_and_cub_are_known(options, heading, capsys):
    words = [*options.split(), "--models", "cnn", "--batch-size", "2"]
    assert main(["summary", *words]) == 0
    assert heading in capsys.readouterr().out


def test_other_datasets_are_loaded(rng, tmp_path, capsys):
    images = rng.integers(0, 256, (30, 20, 24, 3), np.uint8)
    arrays = {"x_train": images, "x_test": images}
    arrays |= {"y_train": np.arange(30) % 4, "y_test": np.arange(30) % 4}
    np.savez(tmp_path / "a.npz", **arrays)
    options = f"--dataset {tmp_path / 'a.npz'} --models cnn --batch-size 4"
    assert main(["summary", "plain", *options.split()]) == 0
    assert "images (20, 24, 3), 4 classes" in capsys.readouterr().out


def test_summaries_that_cannot_be(capsys):
    assert main(["summary", "none"]) == 1
    assert "there is no configuration 'none'" in capsys.readouterr().err
    assert main(["summary", "colocalization"]) == 1
    assert "colocalization has none" in capsys.readouterr().err
    assert main(["summary"]) == 2

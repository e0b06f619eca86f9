"""Exported models: the same predictions, from jax alone."""

import json
import re
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from conftest import ROOT
from jax import export
from PIL import Image
from test_predict import MODEL
from trainings import card as card_of

import train
from train.__main__ import main
from train.models import build
from train.specs import ModelSpec
from train.storage.cards import read_card, write_checked
from train.storage.files import write_file
from train.use.exported import load_exported
from train.use.exporting import PLATFORMS, exported_program


@pytest.fixture(scope="module")
def program(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "model.stablehlo"
    assert main(["export", str(trained / MODEL), "--out", str(path)]) == 0
    return path


def some(rng, count, shape):
    return rng.uniform(size=(count, *shape)).astype(np.float32)


def test_the_predictions_are_the_models(trained, program, rng):
    model, card = train.load(trained / MODEL)
    logits, exported_card = load_exported(program)
    assert exported_card.classes == card.classes
    for count in (1, 7, 500):
        images = some(rng, count, card.input_shape)
        np.testing.assert_allclose(logits(images), model(images), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "canvas", "network"),
    [
        ("cnn", (28, 28, 1), "deep"),
        ("st_cnn-tps", (42, 42, 3), "paper"),
        ("st_cnn-affine", (28, 28, 1), "tutorial"),
        ("st_cnn-affine", (30, 30, 30, 1), "lean"),
        ("2xst_fcn-projective", (42, 42, 2), "lean"),
        ("multi_st_cnn-affine", (42, 42, 1), "lean"),
    ],
)
def test_all_kinds_of_models_are_exported(rng, name, canvas, network):
    """With the normalization inside."""
    model = build(
        ModelSpec.parse(name),
        network,
        canvas=canvas,
        size=(28, 28),
        num_classes=3,
        parameters=1_000_000,
        bound=None,
        seed=0,
    )
    card = card_of(input_shape=canvas, mean=0.25, std=0.5)
    program = export.deserialize(bytearray(exported_program(model, card)))
    images = some(rng, 3, canvas)
    expected = model((images - 0.25) / 0.5)
    np.testing.assert_allclose(program.call(images), expected, rtol=1e-3, atol=1e-3)


def test_the_card_describes_the_program(trained, program):
    of_weights = read_card(trained / MODEL / "best.safetensors")
    card = read_card(program)
    assert card.file == "model.stablehlo"
    assert card.size == program.stat().st_size
    assert (card.mean, card.std) == (0, 1)  # inside
    assert card.errors == of_weights.errors
    assert card.config == of_weights.config
    assert card.provenance["exported"]["platforms"] == ["cpu", "cuda", "tpu"]


def test_the_program_is_for_all_platforms_and_calls_no_kernel(trained, kernel):
    """Even where the compiled kernel is in use."""
    model, card = train.load(trained / MODEL)
    images = jax.ShapeDtypeStruct((2, *card.input_shape), np.float32)
    compiled_here = jax.jit(lambda images: model(images)).lower(images).as_text()
    assert "stn_jax" in compiled_here  # the kernel's calls are found by their name
    program = export.deserialize(bytearray(exported_program(model, card)))
    assert program.platforms == PLATFORMS
    calls = set(re.findall(r"custom_call @(\w+)", program.mlir_module()))
    assert calls <= {"shape_assertion"}


def test_the_default_is_beside_the_weights(trained, tmp_path, capsys):
    folder = shutil.copytree(trained / "models" / "cnn", tmp_path / "cnn")
    assert main(["export", str(folder)]) == 0
    path = folder / "best.stablehlo"
    assert capsys.readouterr().out == f"{path}\n"
    before = path.read_bytes()
    assert main(["export", str(folder)]) == 1
    assert "best.stablehlo exists" in capsys.readouterr().err
    assert path.read_bytes() == before
    assert main(["export", str(folder), "--overwrite"]) == 0


@pytest.mark.parametrize("at", [10, -10])
def test_a_flipped_bit_is_refused(program, tmp_path, capsys, at):
    path = tmp_path / "bad.stablehlo"
    content = bytearray(program.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    card = program.with_name("model.stablehlo.json").read_text()
    path.with_name("bad.stablehlo.json").write_text(card)
    assert main(["predict", str(path), "a.png"]) == 1
    assert "bad.stablehlo is corrupt" in capsys.readouterr().err


def test_what_is_no_program(tmp_path, capsys):
    path = tmp_path / "a.stablehlo"

    def write(name, save):
        return write_file(tmp_path / name, save)

    write_checked(write, path.name, b"no program", card_of())
    assert main(["predict", str(path), "a.png"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: jax {jax.__version__} cannot load {path}")
    assert "Traceback" not in error


def test_the_figure_needs_the_weights(program, capsys):
    with pytest.raises(SystemExit) as info:
        main(["predict", str(program), "a.png", "--figure", "a.png"])
    assert info.value.code == 2
    printed = capsys.readouterr()
    text = " ".join((printed.out + printed.err).replace("│", "").split())
    assert "figure needs the weights" in text


ALONE = """
import sys
for name in ("flax", "optax", "orbax", "train.models", "train.classifiers"):
    sys.modules[name] = None  # an import of it fails
from train.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def test_predict_runs_a_program_without_the_models(trained, program, rng, tmp_path):
    pixels = rng.integers(0, 256, (42, 42), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    entries = []
    for model, code in ((program, ALONE), (trained / MODEL, None)):
        out = tmp_path / f"{model.name}.json"
        arguments = ["predict", str(model), str(tmp_path / "a.png"), "--out", str(out)]
        if code is None:
            assert main(arguments) == 0
        else:
            command = [sys.executable, "-W", "error", "-c", code, *arguments]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            assert done.stderr == ""
        (entry,) = json.loads(out.read_text())["predictions"]
        entries.append([*entry["probabilities"].values()])
    np.testing.assert_allclose(*entries, atol=1e-4)
    # without the program it needs them
    arguments = ["predict", str(trained / MODEL), str(tmp_path / "a.png")]
    command = [sys.executable, "-c", ALONE, *arguments]
    assert subprocess.run(command, cwd=ROOT, capture_output=True).returncode != 0

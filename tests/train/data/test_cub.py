"""CUB-200-2011, in a miniature folder of the original layout."""

import json

import numpy as np
import pytest
from fixtures.resnet_weights import resnet_arrays
from PIL import Image
from safetensors.numpy import save_file

from train.__main__ import main
from train.data import load
from train.errors import DataError

SPECIES = ("001.Black_footed_Albatross", "002.Laysan_Albatross", "003.Sooty_Albatross")
TEXTS = ("images", "image_class_labels", "train_test_split", "classes")
COUNT = 24


def color(number):
    return (10 * number, 255 - 10 * number, 7)


@pytest.fixture
def folder(tmp_path):
    """Images of one color each, two of three for training, of different sizes."""
    folder = tmp_path / "birds" / "CUB_200_2011"
    lines = {name: [] for name in TEXTS}
    lines["classes"] = [f"{i} {name}" for i, name in enumerate(SPECIES, start=1)]
    for number in range(1, COUNT + 1):
        species = SPECIES[number % 3]
        name = f"{species}/{species[4:]}_{number:04}_{100 + number}.jpg"
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        size = (48, 32) if number % 2 else (32, 48)
        Image.new("RGB", size, color(number)).save(path, quality=95)
        lines["images"].append(f"{number} {name}")
        lines["image_class_labels"].append(f"{number} {number % 3 + 1}")
        lines["train_test_split"].append(f"{number} {int(number % 4 > 0)}")
    for name, content in lines.items():
        (folder / f"{name}.txt").write_text("\n".join(content) + "\n")
    return folder


def change(folder, name, old, new):
    """Replace a line of a text file."""
    path = folder / f"{name}.txt"
    lines = path.read_text().splitlines()
    assert old in lines
    path.write_text("\n".join(new if line == old else line for line in lines) + "\n")


def test_images_labels_and_parts(folder):
    data = load("cub", folder, image_size=(24, 24))
    numbers = {
        "train": [n for n in range(1, COUNT + 1) if n % 4],
        "test": [n for n in range(1, COUNT + 1) if n % 4 == 0],
    }
    for part, chosen in numbers.items():
        images, labels = getattr(data, part)
        assert images.shape == (len(chosen), 24, 24, 3)
        np.testing.assert_array_equal(labels, [n % 3 for n in chosen])
        # scaled to fit, with its aspect ratio, on black
        np.testing.assert_allclose(
            images[:, 12, 12], [color(n) for n in chosen], atol=4
        )
        for image, number in zip(images, chosen, strict=True):
            rows, columns = (
                (image.max(axis=(1, 2)) > 20).sum(),
                (image.max(axis=(0, 2)) > 20).sum(),
            )
            assert (rows, columns) == ((16, 24) if number % 2 else (24, 16))
    assert data.classes == (
        "Black footed Albatross",
        "Laysan Albatross",
        "Sooty Albatross",
    )
    assert data.name == "cub"


def test_the_folder_above_and_the_default_size(folder):
    assert load("cub", folder.parent).train.images.shape[1:] == (224, 224, 3)


def test_a_dry_run_goes_the_whole_way(folder, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["run", "plain", "--dataset", "cub", "--data-dir", str(folder)]
    words += ["--image-size", "32", "32", "--steps", "2", "--batch-size", "4"]
    words += ["--models", "st_fcn-affine", "--validation", "0.25", "--out", str(out)]
    assert main(words) == 0
    model = str(out / "models" / "st_fcn-affine")
    picture = str(folder / "images" / SPECIES[1] / "Laysan_Albatross_0001_101.jpg")
    capsys.readouterr()
    assert main(["predict", model, picture, "--resize"]) == 0
    assert "Albatross" in capsys.readouterr().out
    assert main(["evaluate", model, "--data-dir", str(folder)]) == 0
    assert "6 test images of cub" in capsys.readouterr().out


def refused(folder, **options):
    with pytest.raises(DataError) as error:
        load("cub", folder, image_size=(8, 8), **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_folder_must_be_named_and_hold_the_files(folder, tmp_path):
    assert "needs --data-dir, the folder CUB_200_2011" in refused(None)
    assert "images.txt cannot be read (No such file" in refused(tmp_path / "nowhere")
    for name in TEXTS:
        path = folder / f"{name}.txt"
        content = path.read_bytes()
        path.unlink()
        message = refused(folder)
        assert f"{name}.txt cannot be read (No such file" in message
        assert "cub_200_2011" in message
        path.write_bytes(b"")
        assert f"{name}.txt is empty" in refused(folder)
        path.write_bytes(b"\xff\xfe\x00")
        assert f"{name}.txt is not a text file" in refused(folder)
        path.write_bytes(content)
    load("cub", folder, image_size=(8, 8))


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("image_class_labels", "3 1", "3", "txt, line 3: expected a new number and"),
        ("image_class_labels", "3 1", "2 1", "txt, line 3: expected a new number and"),
        ("image_class_labels", "3 1", "x 1", "line 3: .* got 'x 1'"),
        (
            "image_class_labels",
            "3 1",
            "99 1",
            "describe different images: 2 differ",
        ),
        (
            "image_class_labels",
            "3 1",
            "3 4",
            "classes of classes.txt; 1 are others",
        ),
        (
            "train_test_split",
            "3 1",
            "3 2",
            r"or 1 \(training\); 1 are others",
        ),
        (
            "images",
            "3 001.Black_footed_Albatross/Black_footed_Albatross_0003_103.jpg",
            "3 ../../secret.jpg",
            "names a file outside images/: ../../secret.jpg",
        ),
        (
            "images",
            "3 001.Black_footed_Albatross/Black_footed_Albatross_0003_103.jpg",
            "3 001.Black_footed_Albatross/missing.jpg",
            "1 of 24 images cannot be read; .*missing.jpg: no such file",
        ),
    ],
)
def test_faults_in_the_text_files(folder, name, old, new, message):
    change(folder, name, old, new)
    with pytest.raises(DataError, match=message):
        load("cub", folder, image_size=(8, 8))


def test_a_class_without_training_images(folder):
    """Its label would never be predicted."""
    path = folder / "train_test_split.txt"
    lines = [line.split() for line in path.read_text().splitlines()]
    lines = [f"{n} {0 if int(n) % 3 == 2 else mark}" for n, mark in lines]
    path.write_text("\n".join(lines))
    assert "image_class_labels.txt holds labels without training" in refused(folder)


def test_images_that_do_not_decode_are_named(folder):
    for number in (2, 5):
        (path,) = folder.glob(f"images/*/*_{number:04}_*.jpg")
        path.write_bytes(path.read_bytes()[:200])
    message = refused(folder)
    assert "2 of 24 images cannot be read" in message
    assert "_0002_" in message
    assert "_0005_" in message


def test_the_size_is_known_before_the_images_are_decoded(folder):
    assert "needs 4.61e-06 GB when decompressed" in refused(folder, limit=1e-6)


def test_images_that_do_not_decode_are_left_out(folder):
    (path,) = folder.glob("images/*/*_0002_*.jpg")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.warns(UserWarning, match="1 of 24 images are left out:\n.*_0002_"):
        data = load("cub", folder, image_size=(8, 8), skip_bad=True)
    assert len(data.train.labels) == 17
    assert len(data.test.labels) == 6


@pytest.mark.slow
def test_a_dry_run_with_windows_goes_the_whole_way(folder, tmp_path):
    """Crops of 56x56 of images of 64x64, in windows of 28x28."""
    words = ["run", "cub224", "--data-dir", str(folder), "--image-size", "64", "64"]
    options = "--network cub_lean --models 2xst_cnn-attention --steps 2 --batch-size 4"
    out = tmp_path / "out"
    assert main([*words, *options.split(), "--out", str(out)]) == 0
    model = out / "models"
    assert main(["predict", str(model), str(out / "examples" / "0.png")]) == 0
    assert main(["evaluate", str(model), "--data-dir", str(folder)]) == 0


@pytest.mark.slow
def test_a_run_with_the_weights_of_a_resnet(folder, tmp_path, capsys):
    """ResNets of 50 layers in both windows and the localization network."""
    path = tmp_path / "resnet50.safetensors"
    save_file(resnet_arrays(50), path)
    words = ["run", "cub224", "--data-dir", str(folder), "--out", str(tmp_path / "out")]
    options = "--models 2xst_cnn-attention --steps 2 --batch-size 2"
    weights = ["--backbone-weights", str(path)]
    assert main([*words, *options.split(), *weights]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["config"]["backbone_weights"].startswith("sha256 ")
    path.write_bytes(b"")
    assert main([*words, *options.split(), *weights, "--overwrite"]) == 1
    assert "cannot be read as safetensors" in capsys.readouterr().err


def test_backbone_weights_go_with_the_network_of_resnets(folder, tmp_path, capsys):
    words = ["run", "cub224", "--data-dir", str(folder), "--network", "cub_lean"]
    weights = ["--backbone-weights", str(tmp_path / "resnet50.safetensors")]
    assert main([*words, "--image-size", "64", "64", *weights]) == 1
    assert "--backbone-weights goes with --network cub" in capsys.readouterr().err

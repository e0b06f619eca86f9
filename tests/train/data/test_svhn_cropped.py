"""SVHN's cropped digits, in miniature files of the original format."""

import contextlib

import numpy as np
import pytest
from scipy import io

from train.__main__ import main
from train.data import load
from train.data.svhn_cropped import SVHN_FILES
from train.errors import DataError


def images_of(count, seed):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 32, 32, 3)).astype(np.uint8)


def write(path, images, labels, **others):
    """As SVHN stores them: images along the last axis, 10 for the digit 0."""
    variables = {
        "X": np.moveaxis(images, 0, -1),
        "y": np.asarray(labels, np.uint8)[:, None],
    }
    io.savemat(path, variables | others, do_compression=True)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "svhn"
    folder.mkdir()
    for seed, name in enumerate(SVHN_FILES.values()):
        write(folder / name, images_of(40, seed), np.arange(40) % 10 + 1)
    return folder


def test_images_and_labels(folder):
    data = load("svhn_cropped", folder)
    for seed, part in enumerate((data.train, data.test)):
        np.testing.assert_array_equal(part.images, images_of(40, seed))
        assert part.images.flags.c_contiguous
        np.testing.assert_array_equal(part.labels, (np.arange(40) % 10 + 1) % 10)
        assert part.labels.dtype == np.int32
    assert data.classes == tuple("0123456789")
    assert data.name == "svhn_cropped"


def test_a_dry_run_goes_the_whole_way(folder, tmp_path, capsys):
    """From the files to a model that classifies an image."""
    out = tmp_path / "out"
    options = "--steps 2 --batch-size 8 --models fcn st_fcn-affine --validation 0.25"
    words = ["run", "plain", "--dataset", "svhn_cropped", "--data-dir", str(folder)]
    assert main([*words, *options.split(), "--out", str(out)]) == 0
    model, picture = out / "models" / "st_fcn-affine", out / "examples" / "0.png"
    assert main(["predict", str(model), str(picture)]) == 0
    assert main(["evaluate", str(model), "--data-dir", str(folder)]) == 0
    assert "40 test images of svhn_cropped" in capsys.readouterr().out


def refused(folder, limit=8.0):
    with pytest.raises(DataError) as error:
        load("svhn_cropped", folder, limit=limit)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_folder_must_be_named_and_exist(folder, tmp_path):
    assert "needs --data-dir" in refused(None)
    assert "is not a folder" in refused(tmp_path / "nowhere")
    assert "is not a folder" in refused(folder / "train_32x32.mat")
    assert "lacks train_32x32.mat, test_32x32.mat" in refused(tmp_path)
    (folder / "test_32x32.mat").unlink()
    message = refused(folder)
    assert "lacks test_32x32.mat" in message
    assert "housenumbers" in message


def test_every_truncation_is_an_error_that_names_the_file(folder):
    path = folder / "train_32x32.mat"
    content = path.read_bytes()
    for end in np.linspace(0, len(content) - 1, 40).astype(int):
        path.write_bytes(content[:end])
        assert "train_32x32.mat is truncated" in refused(folder)


def test_damaged_bytes_are_an_error_or_harmless(folder):
    """Bytes of padding between variables may change; pixels and labels may not."""
    path = folder / "train_32x32.mat"
    content, whole = path.read_bytes(), load("svhn_cropped", folder)
    for at in np.linspace(128, len(content) - 1, 60).astype(int):
        damaged = bytearray(content)
        damaged[at] ^= 4
        path.write_bytes(bytes(damaged))
        with contextlib.suppress(DataError):
            found = load("svhn_cropped", folder)
            np.testing.assert_array_equal(found.train.images, whole.train.images)
            np.testing.assert_array_equal(found.train.labels, whole.train.labels)


def test_files_of_another_kind(folder):
    path = folder / "train_32x32.mat"
    # the header of MATLAB 7.3, whose files are HDF5
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM" + b"\x89HDF" * 99)
    assert "train_32x32.mat is truncated, corrupted, or no file" in refused(folder)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(1000))
    assert "train_32x32.mat is truncated, corrupted, or no file" in refused(folder)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"images": np.zeros((32, 32, 3, 2), np.uint8)}, "it holds images"),
        ({"X": np.zeros((32, 32, 3, 2), np.uint8)}, "it holds X"),
        (
            {"X": np.zeros((28, 28, 3, 2), np.uint8), "y": np.ones((2, 1))},
            r"X is uint8 \(28, 28, 3, 2\), y \(2, 1\)",
        ),
        (
            {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.ones((3, 1))},
            r"y \(3, 1\)",
        ),
        (
            {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.array([["a"], ["b"]])},
            "y holds <U1",
        ),
        ({"X": np.zeros((32, 32, 3, 2)), "y": np.ones((2, 1))}, "X is double"),
        (
            {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.array([[1], [11]])},
            r"must be from 1 to 10; 1 of 2 are others, the first is 11 \(image 2",
        ),
        (
            {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.array([[0], [3]])},
            r"the first is 0 \(image 1\)",
        ),
    ],
)
def test_other_contents(folder, variables, message):
    io.savemat(folder / "train_32x32.mat", variables)
    with pytest.raises(DataError, match=message):
        load("svhn_cropped", folder)


def test_the_size_is_known_before_anything_is_decompressed(folder):
    assert "needs 0.000246 GB when decompressed" in refused(folder, limit=1e-5)

"""Folders of images by class: layout, names, sizes, channels, corrupt images."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from train.data import load
from train.data.image_folders import load_folder
from train.errors import DataError


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


@pytest.fixture
def pixels(rng):
    """Images of 6x8 pixels by file name."""
    names = ("train/cat/1.png", "train/cat/2.png", "train/dog/1.png", "test/dog/a.png")
    return {
        name: rng.integers(0, 256, size=(6, 8, 3)).astype(np.uint8) for name in names
    }


@pytest.fixture
def folder(tmp_path, pixels):
    for name, image in pixels.items():
        write(tmp_path / "pets" / name, image)
    return tmp_path / "pets"


def test_a_folder_of_images(folder, pixels):
    """Images of one size are the files' pixels, bit by bit."""
    data = load(str(folder))
    assert data.name == "pets"
    assert data.classes == ("cat", "dog")
    np.testing.assert_array_equal(data.train.images, [*pixels.values()][:3])
    assert data.train.images.dtype == np.uint8
    assert data.train.labels.tolist() == [0, 0, 1]
    assert data.train.labels.dtype == np.int32
    np.testing.assert_array_equal(data.test.images[0], pixels["test/dog/a.png"])
    assert data.test.labels.tolist() == [1]
    assert data.validation is None


@pytest.mark.parametrize("name", ["validation", "val", "valid"])
def test_a_folder_with_a_validation_part(folder, pixels, name):
    shutil.copytree(folder / "train", folder / name)
    data = load_folder(folder)
    np.testing.assert_array_equal(data.validation.images, [*pixels.values()][:3])
    assert data.validation.labels.tolist() == [0, 0, 1]
    (folder / f"{name}x").mkdir()  # other folders are ignored
    assert load_folder(folder).validation is not None


def test_two_validation_parts(folder):
    shutil.copytree(folder / "train", folder / "val")
    shutil.copytree(folder / "train", folder / "valid")
    with pytest.raises(DataError, match="has the folders val and valid: keep one"):
        load_folder(folder)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["10", "9", "1"], ("1", "9", "10")),
        (["10", "9", "a"], ("10", "9", "a")),
        (["b", "A", "ä"], ("A", "b", "ä")),
    ],
)
def test_the_order_of_the_classes(tmp_path, names, expected):
    for name in names:
        write(tmp_path / "train" / name / "1.png", np.zeros((2, 2), np.uint8))
    write(tmp_path / "test" / names[0] / "1.png", np.zeros((2, 2), np.uint8))
    data = load_folder(tmp_path)
    assert data.classes == expected
    assert data.train.labels.tolist() == sorted(data.train.labels.tolist()) or all(
        name.isdigit() for name in names
    )
    assert data.test.labels.tolist() == [expected.index(names[0])]


# channels and sizes


def test_images_are_gray_if_all_training_images_are(tmp_path, rng):
    gray = rng.integers(0, 256, size=(3, 4)).astype(np.uint8)
    write(tmp_path / "train/a/1.png", gray)
    write(tmp_path / "train/b/1.png", gray)
    write(tmp_path / "test/a/1.png", np.dstack([gray] * 3))
    data = load_folder(tmp_path)
    np.testing.assert_array_equal(data.train.images, [gray[..., None]] * 2)
    np.testing.assert_array_equal(data.test.images, [gray[..., None]])
    write(tmp_path / "train/b/2.png", np.dstack([gray] * 3))
    data = load_folder(tmp_path)
    np.testing.assert_array_equal(data.train.images, [np.dstack([gray] * 3)] * 3)
    assert data.test.images.shape == (1, 3, 4, 3)


def test_the_default_size_is_the_median_of_the_training_images(tmp_path):
    sizes = {"a/1": (10, 30), "a/2": (20, 10), "b/1": (40, 20)}
    for name, size in sizes.items():
        write(tmp_path / f"train/{name}.png", np.full(size, 200, np.uint8))
    for index in range(9):
        write(tmp_path / f"test/a/{index}.png", np.full((99, 99), 200, np.uint8))
    data = load_folder(tmp_path)
    assert data.train.images.shape == (3, 20, 20, 1)
    assert data.test.images.shape == (9, 20, 20, 1)
    # 10x30 becomes 7x20, centered
    rows = data.train.images[0, :, :, 0].max(axis=1)
    assert rows.tolist() == [0] * 6 + [200] * 7 + [0] * 7
    data = load_folder(tmp_path, (12, 18))
    assert data.train.images.shape == (3, 12, 18, 1)


def test_the_size_from_the_command_line(folder):
    assert load(str(folder), image_size=(3, 5)).train.images.shape == (3, 3, 5, 3)


# the layout


def test_hidden_files_are_ignored(folder):
    for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
        for where in (".", "train", "train/cat", "test"):
            (folder / where / name).write_bytes(b"x")
    (folder / "train" / ".ipynb_checkpoints").mkdir()
    (folder / "README.md").write_text("mine")
    data = load_folder(folder)
    assert data.classes == ("cat", "dog")
    assert len(data.train.labels) == 3


def remove(name):
    return lambda folder: shutil.rmtree(folder / name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove("test"), r"pets has no folder test. Expected: train/CLASS/\*.png"),
        (remove("train"), "has no folder train. Expected"),
        (remove("train/cat"), "train holds 1 class folders; a classifier needs"),
        (remove("test/dog"), "test holds no images"),
        (lambda f: (f / "train/cow").mkdir(), "train/cow holds no images: add some"),
        (lambda f: (f / "test/cat").mkdir(), "test/cat holds no images: add some"),
        (
            lambda f: (f / "test/dog").rename(f / "test/cow"),
            r"test/cow is not a folder of one of the training classes \(cat, dog\)",
        ),
        (
            lambda f: (f / "train/cat/notes.txt").write_text("mine"),
            "train/cat/notes.txt: a class folder holds images alone .*this file",
        ),
        (
            lambda f: (f / "train/cat/more").mkdir(),
            "train/cat/more: a class folder holds images alone .*this folder",
        ),
        (lambda f: (f / "train/cat/x.png").mkdir(), "x.png: .* remove .* this folder"),
        (lambda f: (f / "train/a.png").write_bytes(b""), "a.png is not a folder of a"),
        (lambda f: (f / "test/a.png").write_bytes(b""), "a.png is not a folder of one"),
    ],
)
def test_other_layouts(folder, change, message):
    change(folder)
    with pytest.raises(DataError, match=message) as info:
        load_folder(folder)
    assert str(folder) in str(info.value)


def test_a_folder_without_parts(folder):
    with pytest.raises(
        DataError,
        match=r"no folder train and no folder test.*\(cat, dog\) without",
    ):
        load_folder(folder / "train")
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match=r"Expected: .*CLASS/\*.png\.$"):
        load_folder(folder / "empty")


def test_a_folder_of_mnist_is_recognized(tmp_path):
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(b"")
    with pytest.raises(DataError, match=f"--dataset mnist --data-dir {tmp_path}"):
        load_folder(tmp_path)


def test_loops_of_links_end(folder):
    (folder / "train" / "loop").symlink_to(folder / "train")
    with pytest.raises(DataError, match="a class folder holds images alone"):
        load_folder(folder)
    (folder / "train" / "loop").unlink()
    (folder / "train" / "self").symlink_to(folder / "train" / "self")
    with pytest.raises(DataError, match="self is not a folder of a class"):
        load_folder(folder)
    (folder / "train" / "self").unlink()
    (folder / "train" / "cat" / "3.png").symlink_to(folder / "train" / "cat" / "3.png")
    with pytest.raises(DataError, match=r"3.png: .*symbolic links"):
        load_folder(folder)


def test_a_folder_that_may_not_be_read(folder, monkeypatch):
    def denied(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", denied)
    with pytest.raises(DataError, match=r"cannot be read \(Permission denied\)"):
        load_folder(folder)


# images


def test_all_corrupt_images_are_counted(folder, pixels):
    """Damage in a header and damage in the pixels are reported together."""
    path = folder / "train/cat/1.png"
    path.write_bytes(path.read_bytes()[:-60])
    for index in range(5):
        (folder / f"test/dog/b{index}.jpg").write_bytes(b"not an image")
    with pytest.raises(DataError, match="6 of 9 images cannot be read") as info:
        load_folder(folder)
    message = str(info.value)
    assert message.count(" cannot be read as an image") == 5
    assert message.endswith("And 1 more.")
    assert "b0.jpg" in message
    for index in range(5):
        (folder / f"test/dog/b{index}.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of 4 .*train/cat/1.png cannot be .*trunc"):
        load_folder(folder)


def test_a_folder_of_corrupt_images_alone(folder):
    for path in folder.glob("train/*/*.png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="3 of 4 images cannot be read"):
        load_folder(folder)


def test_the_limit_is_checked_before_an_image_is_decoded(folder, monkeypatch):
    def fail(path, channels):
        raise AssertionError("an image was decoded")

    monkeypatch.setattr("train.data.labeled_images.read_picture", fail)
    # 4 images of 6x8 pixels and 3 channels
    with pytest.raises(DataError, match=r"pets needs 5.76e-07 GB .*--data-limit 1\."):
        load_folder(folder, limit=575 / 1e9)
    with pytest.raises(DataError, match="needs 48 GB"):
        load_folder(folder, image_size=(40_000, 100_000))
    monkeypatch.undo()
    assert load_folder(folder, limit=576 / 1e9)


def test_images_that_cannot_be_read_are_left_out_and_listed(folder):
    good = load_folder(folder)
    (folder / "test/dog/bad.jpg").write_bytes(b"not an image")
    path = folder / "train/cat/1.png"
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.warns(UserWarning, match="2 of 5 images are left out:") as caught:
        data = load_folder(folder, skip_bad=True)
    (message,) = [str(warning.message) for warning in caught]
    assert "bad.jpg" in message
    assert "cat/1.png" in message
    assert len(data.train.labels) == len(good.train.labels) - 1
    for array, expected in zip(data.test, good.test, strict=True):
        np.testing.assert_array_equal(array, expected)


def test_a_part_without_any_image_that_can_be_read(folder):
    for path in folder.glob("test/*/*"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"no test image can be read\. .*"):
        load_folder(folder, skip_bad=True)

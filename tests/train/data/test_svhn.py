"""SVHN's full numbers, in miniature folders of the original format."""

import builtins
import functools
import json
import re
import shutil
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter

from train.__main__ import main
from train.data import converted, svhn
from train.data.digit_struct import count_numbers, read_numbers
from train.data.svhn import load_svhn
from train.errors import DataError

h5py = pytest.importorskip("h5py")

FIELDS = ("label", "left", "top", "width", "height")


class Photo(NamedTuple):
    """An image of SVHN: its pixels, and its digits."""

    pixels: np.ndarray
    digits: list[tuple]
    """The FIELDS of each digit, from left to right."""


def write_digit_struct(path, photos):
    """As MATLAB writes it: HDF5 behind a header of 512 bytes.

    ``photos`` is a list of names and digits. The fields of one digit are numbers, those
    of several are references to numbers.
    """
    with h5py.File(path, "w", userblock_size=512) as file:
        held = file.create_group("#refs#")

        def refer(data):
            return held.create_dataset(f"d{len(held)}", data=data).ref

        def column(references):
            data = np.empty((len(references), 1), h5py.ref_dtype)
            data[:, 0] = references
            return data

        names, boxes = [], []
        for name, digits in photos:
            names.append(refer(np.array([*map(ord, name)], np.uint16)[:, None]))
            if not digits:  # an empty matrix is stored as its size
                empty = held.create_dataset(
                    f"d{len(held)}", data=np.zeros(2, np.uint64)
                )
                empty.attrs["MATLAB_empty"] = np.uint8(1)
                boxes.append(empty.ref)
                continue
            group = held.create_group(f"g{len(held)}")
            for field, values in zip(FIELDS, zip(*digits, strict=True), strict=True):
                numbers = [np.array([[value]], np.float64) for value in values]
                alone = len(numbers) == 1
                data = numbers[0] if alone else column([*map(refer, numbers)])
                group.create_dataset(field, data=data)
            boxes.append(group.ref)
        file["digitStruct/name"] = column(names)
        file["digitStruct/bbox"] = column(boxes)
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, HDF5 schema 1.00 .".ljust(124) + b"\0\2IM")


def write_part(folder, photos):
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{number}.png" for number in range(1, len(photos) + 1)]
    for name, photo in zip(names, photos, strict=True):
        Image.fromarray(photo.pixels).save(folder / name)
    digits = [photo.digits for photo in photos]
    write_digit_struct(folder / "digitStruct.mat", [*zip(names, digits, strict=True)])


def color_of(number):
    return (10 * number + 5, 250 - 10 * number, 40)


def plain(number, labels=(1,)):
    """A gray image in which the boxes of digits, side by side, have one color."""
    pixels = np.full((40, 70, 3), 128, np.uint8)
    digits = [(label, 6 + 10 * i, 8, 10, 20) for i, label in enumerate(labels)]
    pixels[8:28, 6 : 6 + 10 * len(labels)] = color_of(number)
    return Photo(pixels, digits)


NUMBERS = {
    "train": [(1,), (10,), (1, 9), (2, 10, 3), (4, 5, 6, 7), (8, 8, 10, 10, 1)],
    "test": [(3, 2, 1), (10, 10), (5,)],
    "extra": [(9, 9), (7,)],
}
# class 0 is a place without a digit, and the digit d has the class d + 1
CLASSES = {
    "train": [
        [2, 0, 0, 0, 0],
        [1, 0, 0, 0, 0],
        [2, 10, 0, 0, 0],
        [3, 1, 4, 0, 0],
        [5, 6, 7, 8, 0],
        [9, 9, 1, 1, 2],
    ],
    "test": [[4, 3, 2, 0, 0], [1, 1, 0, 0, 0], [6, 0, 0, 0, 0]],
    "extra": [[10, 10, 0, 0, 0], [8, 0, 0, 0, 0]],
}


def photos_of(part):
    first = {"train": 0, "test": 10, "extra": 20}[part]
    return [plain(first + i, labels) for i, labels in enumerate(NUMBERS[part])]


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("svhn")
    for part in ("train", "test"):
        write_part(folder / part, photos_of(part))
    return folder


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / "svhn")


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(converted.os, "fsync", lambda _: None)


@pytest.fixture
def decoded(monkeypatch):
    """The list of the images that are decoded."""
    names = []

    def read(path, channels):
        names.append(f"{path.parent.name}/{path.name}")
        return svhn_read_picture(path, channels)

    svhn_read_picture = svhn.read_picture
    monkeypatch.setattr(svhn, "read_picture", read)
    return names


def refused(folder, image_size=None, **options):
    with pytest.raises(DataError) as error:
        load_svhn(folder, image_size, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def same(data, other):
    for part in ("train", "test"):
        for array, expected in zip(
            getattr(data, part), getattr(other, part), strict=True
        ):
            np.testing.assert_array_equal(array, expected)


# images and labels


@pytest.mark.parametrize("image_size", [None, (64, 64)])
def test_images_and_labels(folder, image_size):
    data = load_svhn(folder, image_size)
    for part in ("train", "test"):
        images, labels = getattr(data, part)
        colors = [photo.pixels[10, 8] for photo in photos_of(part)]
        expected = np.broadcast_to(
            np.array(colors)[:, None, None], (len(colors), 64, 64, 3)
        )
        np.testing.assert_array_equal(images, expected)
        np.testing.assert_array_equal(labels, CLASSES[part])
        assert labels.dtype == np.int32
    assert data.name == "svhn"
    assert data.classes == ("none", *"0123456789")
    assert data.validation is None


def test_the_images_are_mapped_and_read_only(folder):
    images = load_svhn(folder, None).train.images
    assert isinstance(images, np.memmap)
    assert images.dtype == np.uint8
    with pytest.raises(ValueError, match="read-only"):
        images[0] = 0


def test_extra_follows_train(folder):
    load_svhn(folder, None)
    write_part(folder / "extra", photos_of("extra"))
    with pytest.warns(UserWarning, match="train is made again: .* another source"):
        data = load_svhn(folder, None)
    np.testing.assert_array_equal(
        data.train.labels, CLASSES["train"] + CLASSES["extra"]
    )
    assert len(data.test.labels) == 3
    np.testing.assert_array_equal(
        data.train.images[:, 0, 0],
        [color_of(n) for n in (0, 1, 2, 3, 4, 5, 20, 21)],
    )


def test_a_crop_is_the_union_of_the_boxes_without_their_aspect_ratio(folder):
    """Two boxes of different rows: quarters of four colors, and a frame around them."""
    pixels = np.full((50, 60, 3), 255, np.uint8)
    colors = np.array([[[200, 0, 0], [0, 200, 0]], [[0, 0, 200], [200, 200, 0]]])
    pixels[4:24, 10:50] = np.kron(colors, np.ones((10, 20, 1)))
    write_part(
        folder / "test", [Photo(pixels, [(1, 10, 4, 15, 9), (2, 24, 8, 26, 16)])]
    )
    (folder / "test" / "2.png").unlink()
    (folder / "test" / "3.png").unlink()
    (image,) = load_svhn(folder, None).test.images
    for row in range(2):
        for column in range(2):
            quarter = image[32 * row :, 32 * column :][4:28, 4:28]
            assert np.abs(quarter.astype(int) - colors[row, column]).max() <= 8
    np.testing.assert_array_equal(image[0, :24], np.tile(colors[0, 0], (24, 1)))


def test_the_looser_crop_shows_what_is_around_and_black_outside(folder):
    """A box of 32x32 pixels near the upper left corner of an image."""
    left, top = 12, 8
    pixels = np.full((60, 80, 3), 128, np.uint8)
    pixels[top : top + 32, left : left + 32] = (250, 10, 60)
    write_part(folder / "test", [Photo(pixels, [(1, left, top, 32, 32)])] * 3)
    image = load_svhn(folder, (128, 128)).test.images[0]
    # from 16 pixels left of the box and above it, two for each of the image
    expected = np.pad(pixels, ((8, 0), (4, 0), (0, 0)))[:64, :64]
    expected = np.kron(expected, np.ones((2, 2, 1)))
    size = (15, 15, 1)  # farther from an edge than the filter reaches
    is_flat = maximum_filter(expected, size) == minimum_filter(expected, size)
    assert is_flat.mean() > 0.3
    np.testing.assert_allclose(image[is_flat], expected[is_flat], atol=1)
    # the edges are where they should be
    assert np.abs(image - expected).mean() < 4


def test_boxes_beyond_the_image_end_at_its_border(folder):
    pixels = np.full((30, 50, 3), 90, np.uint8)
    digits = [(1, -3, -2, 20, 20), (2, 30, 5, 1e6, 1e6)]
    write_part(folder / "test", [Photo(pixels, digits)] * 3)
    assert (load_svhn(folder, None).test.images == 90).all()


def test_small_and_large_images_are_antialiased(folder):
    """A checkerboard becomes gray where it is scaled down."""
    rows, columns = np.indices((400, 400))
    pixels = np.repeat(((rows + columns) % 2 * 255).astype(np.uint8)[..., None], 3, -1)
    write_part(folder / "test", [Photo(pixels, [(1, 0, 0, 400, 400)])] * 3)
    np.testing.assert_allclose(load_svhn(folder, None).test.images, 127.5, atol=3)


def test_numbers_are_read_from_any_image_on(folder):
    path = folder / "train" / "digitStruct.mat"
    assert count_numbers(path) == 6
    found = list(read_numbers(path))
    assert [number.image for number in found] == [f"{i}.png" for i in range(1, 7)]
    for number, photo in zip(found, photos_of("train"), strict=True):
        np.testing.assert_array_equal(
            np.column_stack([number.labels, number.boxes]), photo.digits
        )
    (last,) = read_numbers(path, 5)
    np.testing.assert_array_equal(last.labels, [8, 8, 10, 10, 1])


@pytest.mark.parametrize("image_size", [(32, 32), (64, 128), (0, 0)])
def test_other_sizes(folder, image_size):
    message = refused(folder, image_size)
    assert "64 64 and of 128 128 pixels; got --image-size" in message


# converted files


def test_the_second_call_decodes_nothing(folder, decoded, monkeypatch):
    data = load_svhn(folder, None)
    assert len(decoded) == 9
    monkeypatch.setitem(sys.modules, "h5py", None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same(load_svhn(folder, None), data)
    assert len(decoded) == 9


def test_each_size_has_its_files(folder, decoded):
    for side in (64, 128, 64, 128):
        data = load_svhn(folder, (side, side))
        assert data.train.images.shape == (6, side, side, 3)
    assert len(decoded) == 18
    for name in ("stn_jax-64", "stn_jax-128"):
        found = sorted(path.name for path in (folder / name).iterdir())
        assert [name for name in found if name != "lock"] == ["test", "train"]


def test_the_header_describes_the_files(folder):
    load_svhn(folder, None)
    place = folder / "stn_jax-64" / "train"
    header = json.loads((place / "header.json").read_text())
    assert (header["read"], header["count"], header["left_out"]) == (6, 6, [])
    source = header["source"]["train"]
    assert source["bytes"] == (folder / "train" / "digitStruct.mat").stat().st_size
    assert source["images"] == 6
    for name, digest in header["sha256"].items():
        assert converted._digest_of_image(place / name) == digest


def test_another_folder_for_the_converted_images(folder, tmp_path, decoded):
    cache = tmp_path / "a" / "cache"
    data = load_svhn(folder, None, cache=cache)
    assert not (folder / "stn_jax-64").exists()
    same(load_svhn(folder, None, cache=cache), data)
    assert len(decoded) == 9


def test_a_place_that_cannot_be_written(folder, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    message = refused(folder, cache=tmp_path / "file")
    assert str(tmp_path / "file") in message
    assert "another folder with --cache-dir" in message

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(converted.os, "fsync", full)
        assert "cannot be written (No space left on device)" in refused(folder)
    load_svhn(folder, None)


def test_converted_images_are_loaded_from_a_folder_that_cannot_be_locked(
    folder, monkeypatch
):
    load_svhn(folder, None)

    def fail(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(converted.filelock, "FileLock", fail)
    load_svhn(folder, None)


def interrupt(monkeypatch, after):
    """Have the decoder fail at the image ``after``."""
    calls, read = [], svhn.read_picture

    def failing(*args):
        calls.append(args)
        if len(calls) > after:
            raise KeyboardInterrupt
        return read(*args)

    monkeypatch.setattr(svhn, "read_picture", failing)


@pytest.mark.parametrize("is_torn", [False, True])
def test_a_conversion_that_was_cut_off_is_continued(
    folder, decoded, monkeypatch, tmp_path, is_torn
):
    write_part(folder / "extra", photos_of("extra"))
    complete = load_svhn(folder, None, cache=tmp_path / "other")
    decoded.clear()
    monkeypatch.setattr(converted, "CHUNK", 2)
    with monkeypatch.context() as patch:
        interrupt(patch, 5)
        with pytest.raises(KeyboardInterrupt):
            load_svhn(folder, None)
    place = folder / "stn_jax-64"
    assert not (place / "train").exists()
    if is_torn:
        for name in ("images.bin", "labels.bin"):
            with (place / "train.unfinished" / name).open("ab") as file:
                file.write(b"of an image without a record")
    decoded.clear()
    data = load_svhn(folder, None)
    train = ["train/5.png", "train/6.png", "extra/1.png", "extra/2.png"]
    assert decoded == [*train, "test/1.png", "test/2.png", "test/3.png"]
    same(data, complete)
    assert not list(place.glob("*.unfinished"))


def test_a_conversion_is_continued_in_extra(folder, decoded, monkeypatch):
    write_part(folder / "extra", photos_of("extra"))
    monkeypatch.setattr(converted, "CHUNK", 1)
    with monkeypatch.context() as patch:
        interrupt(patch, 7)
        with pytest.raises(KeyboardInterrupt):
            load_svhn(folder, None)
    decoded.clear()
    data = load_svhn(folder, None)
    assert decoded[0] == "extra/2.png"
    np.testing.assert_array_equal(
        data.train.labels, CLASSES["train"] + CLASSES["extra"]
    )


@pytest.mark.parametrize("fault", ["source", "changed", "truncated", "record"])
def test_an_unfinished_conversion_that_does_not_fit_is_made_again(
    folder, decoded, monkeypatch, fault
):
    monkeypatch.setattr(converted, "CHUNK", 2)
    with monkeypatch.context() as patch:
        interrupt(patch, 5)
        with pytest.raises(KeyboardInterrupt):
            load_svhn(folder, None)
    unfinished = folder / "stn_jax-64" / "train.unfinished"
    images = unfinished / "images.bin"
    if fault == "source":
        photos = [*photos_of("train"), plain(9)]
        write_part(folder / "train", photos)
    elif fault == "changed":
        flip(images, 100)
    elif fault == "truncated":
        images.write_bytes(images.read_bytes()[:100])
    else:
        (unfinished / "header.json").write_text('{"format": 1')
    decoded.clear()
    data = load_svhn(folder, None)
    assert decoded[0] == "train/1.png"
    assert len(data.train.labels) == 6 + (fault == "source")
    np.testing.assert_array_equal(data.train.images[0, 0, 0], color_of(0))


def test_a_conversion_that_ended_before_its_renaming(folder, decoded, monkeypatch):
    data = load_svhn(folder, None)
    place = folder / "stn_jax-64"
    (place / "train").rename(place / "train.unfinished")
    decoded.clear()
    same(load_svhn(folder, None), data)
    assert decoded == []


def flip(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "damage", "why"),
    [
        ("images.bin", lambda p: p.write_bytes(p.read_bytes()[:-1]), "is truncated"),
        ("labels.bin", lambda p: p.write_bytes(b""), "is truncated"),
        ("images.bin", lambda p: flip(p, 40_000), "images.bin has changed"),
        ("labels.bin", lambda p: flip(p, 21), "labels.bin has changed"),
        ("images.bin", Path.unlink, None),
        ("header.json", Path.unlink, None),
        ("header.json", lambda p: p.write_text("[]"), "must be a mapping"),
        ("header.json", lambda p: p.write_text("{}"), "missing"),
        ("header.json", lambda p: p.write_bytes(b"\xff"), "decode"),
        ("header.json", lambda p: edit(p, format=0), "by another version"),
        ("header.json", lambda p: edit(p, source={}), "of another source"),
        ("header.json", lambda p: edit(p, read=5, count=5), "has changed"),
        ("header.json", lambda p: edit(p, read=5), "contradicts itself"),
        ("header.json", lambda p: edit(p, count="6"), "TypeError|str"),
    ],
)
def test_damaged_files_are_made_again(folder, decoded, name, damage, why):
    data = load_svhn(folder, None)
    expected = [np.array(data.train.images), data.train.labels]
    decoded.clear()
    damage(folder / "stn_jax-64" / "train" / name)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        again = load_svhn(folder, None)
    assert len(decoded) == 6  # not those of test
    np.testing.assert_array_equal(again.train.images, expected[0])
    np.testing.assert_array_equal(again.train.labels, expected[1])
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == (why is not None)
    for message in messages:
        assert re.search(rf"train is made again: .*({why})", message), message


def edit(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_another_digit_struct_is_noticed(folder):
    load_svhn(folder, None)
    photos = [plain(i, (2,)) for i in range(3)]
    write_part(folder / "test", photos)
    with pytest.warns(UserWarning, match="test is made again"):
        data = load_svhn(folder, None)
    assert (data.test.labels[:, 0] == 3).all()


def test_progress_is_printed_by_tenths(folder, capfd):
    load_svhn(folder, None)
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "converting train: 1 of 6 images"
    assert "converting test: 3 of 3 images" in lines
    show = converted._line_for_each_tenth("x", 0, 1000)
    for done in range(1001):
        show(done)
    assert len(capfd.readouterr().err.splitlines()) == 10


def test_a_terminal_shows_a_bar(folder, monkeypatch, capfd):
    terminal = functools.partial(converted.Console, force_terminal=True)
    monkeypatch.setattr(converted, "Console", terminal)
    load_svhn(folder, None)
    shown = capfd.readouterr().err
    assert "converting test" in shown
    assert "100%" in shown


def test_a_second_process_waits(folder, monkeypatch, capfd):
    """Here for a lock of this process, which is released while it waits."""
    place = folder / "stn_jax-64"
    place.mkdir()
    other = FileLock(place / "lock")
    other.acquire()

    def note(*args, **options):
        builtins_print(*args, **options)
        if "waiting" in args[0]:
            other.release()

    builtins_print = builtins.print
    monkeypatch.setattr(builtins, "print", note)
    assert len(load_svhn(folder, None).train.labels) == 6
    assert "waiting for the process that writes to" in capfd.readouterr().err


# faults of the folder


def test_a_folder_must_be_named_and_hold_both_parts(folder, tmp_path):
    assert "--dataset svhn needs --data-dir" in refused(None)
    assert "is not a folder" in refused(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    message = refused(tmp_path / "empty")
    assert "empty lacks the folder train and test" in message
    assert "housenumbers" in message
    shutil.rmtree(folder / "test")
    assert "svhn lacks the folder test." in refused(folder, skip_bad=True)


@pytest.mark.parametrize("skip_bad", [False, True])
@pytest.mark.parametrize("part", ["train", "test", "extra"])
def test_a_part_that_is_unpacked_in_part(folder, skip_bad, part):
    write_part(folder / "extra", photos_of("extra"))
    path = folder / part
    (path / "2.png").unlink()
    message = refused(folder, skip_bad=skip_bad)
    count = len(NUMBERS[part])
    assert f"{path} holds {count - 1} images" in message
    assert f"lists {count}" in message
    assert f"Unpack {part}.tar.gz of" in message
    (path / "other.png").write_bytes((path / "1.png").read_bytes())
    message = refused(folder, skip_bad=skip_bad)
    assert f"{path / '2.png'}, which digitStruct.mat lists, is missing" in message
    for image in path.glob("*.png"):
        image.unlink()
    assert f"{path} holds no images" in refused(folder, skip_bad=skip_bad)
    (path / "digitStruct.mat").unlink()
    message = refused(folder, skip_bad=skip_bad)
    assert f"{path / 'digitStruct.mat'} cannot be read (No such file" in message


@pytest.mark.parametrize("skip_bad", [False, True])
def test_digit_struct_of_another_part(folder, skip_bad):
    shutil.copy(folder / "test" / "digitStruct.mat", folder / "train")
    assert "holds 6 images (.png), its digitStruct.mat lists 3" in refused(
        folder, skip_bad=skip_bad
    )


def test_truncations_are_errors_that_name_the_file(folder):
    path = folder / "test" / "digitStruct.mat"
    content = path.read_bytes()
    for end in np.linspace(0, len(content) - 1, 30).astype(int):
        path.write_bytes(content[:end])
        message = refused(folder, skip_bad=True)
        assert f"{path} is truncated, corrupted, or no digitStruct.mat" in message
        assert "Unpack test.tar.gz" in message


def test_files_of_another_kind(folder):
    path = folder / "train" / "digitStruct.mat"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(1000))
    assert "is truncated, corrupted, or no digitStruct.mat" in refused(folder)
    path.unlink()
    path.mkdir()
    assert "digitStruct.mat cannot be read (Is a directory)" in refused(folder)


def references(file, *values):
    data = np.empty((len(values), 1), h5py.ref_dtype)
    data[:, 0] = [
        file.create_dataset(f"x{len(file)}", data=value).ref for value in values
    ]
    return data


def replace(file, name, data):
    del file[name]
    file[name] = data


def shorten_field(file):
    group = file[file["digitStruct/bbox"][0, 0]]
    replace(group, "top", group["top"][:2])


def lengthen_number(file):
    group = file[file["digitStruct/bbox"][0, 0]]
    replace(group, "top", np.zeros((2, 1)))


def rename_image(name):
    codes = np.array([*map(ord, name)], np.uint16)[:, None]
    return lambda file: replace(
        file, "digitStruct/name", references(file, *[codes] * 3)
    )


@pytest.mark.parametrize("skip_bad", [False, True])
@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda f: f.pop("digitStruct"), "it holds #refs#, in another structure"),
        (lambda f: f.pop("digitStruct/bbox"), "in another structure"),
        (
            lambda f: replace(f, "digitStruct/name", np.zeros((3, 1))),
            "in another structure",
        ),
        (
            lambda f: replace(f, "digitStruct/name", f["digitStruct/name"][:2]),
            "it lists 2 names and 3 boxes",
        ),
        (
            lambda f: replace(
                f, "digitStruct/bbox", references(f, *[np.zeros((1, 1))] * 3)
            ),
            "no digitStruct.mat of SVHN's full numbers: ",
        ),
        (
            lambda f: f[f["digitStruct/bbox"][0, 0]].pop("width"),
            "no digitStruct.mat of SVHN's full numbers: .*width",
        ),
        (shorten_field, "for 1.png it lists 3 of label, 3 of left, 2 of top"),
        (lengthen_number, r"an array \(2, 1\) for a number"),
        (rename_image("../1.png"), "it names an image '../1.png'"),
        (rename_image("1\n.png"), r"it names an image '1\\n.png'"),
        (rename_image(""), "it names an image ''"),
    ],
)
def test_other_structures(folder, change, why, skip_bad):
    path = folder / "test" / "digitStruct.mat"
    with h5py.File(path, "r+") as file:
        change(file)
    message = refused(folder, skip_bad=skip_bad)
    assert str(path) in message
    assert re.search(why, message), message


def test_h5py_is_named_if_it_is_missing(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert refused(folder) == "--dataset svhn needs h5py: pip install h5py"


# faults of images


def with_digits(*digits):
    return Photo(plain(1).pixels, [*digits])


FAULTS = [
    (with_digits(*plain(1, (1,) * 6).digits), "has 6 digits, not 1 to 5"),
    (with_digits(), "has 0 digits, not 1 to 5"),
    (with_digits((0, 6, 8, 10, 20)), "a digit with the label 0, not 1 to 10"),
    (
        with_digits((1, 6, 8, 10, 20), (11, 16, 8, 10, 20)),
        "a digit with the label 11, not",
    ),
    (with_digits((1.5, 6, 8, 10, 20)), "a digit with the label 1.5, not"),
    (with_digits((np.nan, 6, 8, 10, 20)), "a digit with the label nan, not"),
    (with_digits((1, 6, 8, 0, 20)), r"box of a digit \(.*: 6, 8, 0, 20\) is empty"),
    (with_digits((1, 6, 8, 10, -2)), "is empty"),
    (with_digits((1, np.nan, 8, 10, 20)), "is not finite"),
    (with_digits((1, 6, 8, np.inf, 20)), "is not finite"),
    (with_digits((1, 70, 8, 10, 20)), "holds no pixel of the image, 70x40"),
    (
        with_digits((1, 6, 8, 10, 20), (2, 6, -20, 10, 20)),
        r"\(.*: 6, -20, 10, 20\) holds no pixel",
    ),
]


@pytest.mark.parametrize(("photo", "why"), FAULTS)
def test_an_image_that_cannot_be_used(folder, decoded, photo, why):
    photos = photos_of("train")
    write_part(folder / "train", [photos[0], photo, *photos[2:]])
    message = refused(folder)
    assert f"{folder}: 1 of 9 images cannot be used" in message
    assert "or leave them out with --skip-bad" in message
    assert re.search(rf"train/2\.png.*{why}", message), message
    read = len(decoded)
    with pytest.warns(UserWarning, match=rf"1 of 9 .* left out\. .*2\.png.*{why}"):
        data = load_svhn(folder, None, skip_bad=True)
    expected = CLASSES["train"][:1] + CLASSES["train"][2:]
    np.testing.assert_array_equal(data.train.labels, expected)
    np.testing.assert_array_equal(
        data.train.images[:, 0, 0], [color_of(n) for n in (0, 2, 3, 4, 5)]
    )
    assert len(decoded) == read  # the images were converted by the first call
    assert refused(folder) == message


def test_images_that_do_not_decode_are_counted_and_listed(folder):
    for number in range(1, 7):
        path = folder / "train" / f"{number}.png"
        path.write_bytes(path.read_bytes()[:60])
    path = folder / "test" / "1.png"
    path.write_bytes(b"")
    message = refused(folder)
    assert "7 of 9 images cannot be used" in message
    assert message.count("cannot be read as an image") == 5
    assert message.endswith("And 2 more.")
    # without training images
    message = refused(folder, skip_bad=True)
    assert "7 of 9 images cannot be used" in message
    assert "--skip-bad" not in message
    header = json.loads((folder / "stn_jax-64" / "train" / "header.json").read_text())
    names = [entry["image"] for entry in header["left_out"]]
    assert names == [f"train/{number}.png" for number in range(1, 7)]


def test_an_image_that_was_repaired_is_noticed(folder):
    path = folder / "train" / "3.png"
    content = path.read_bytes()
    path.write_bytes(content[:60])
    refused(folder)
    path.write_bytes(content)
    with pytest.warns(UserWarning, match=r"train/3.png, which was left out, has chan"):
        data = load_svhn(folder, None)
    np.testing.assert_array_equal(data.train.labels, CLASSES["train"])


def test_left_out_images_are_kept_in_the_record(folder, decoded, monkeypatch):
    """Of a conversion that was cut off behind them."""
    (folder / "train" / "1.png").write_bytes(b"")
    monkeypatch.setattr(converted, "CHUNK", 3)
    with monkeypatch.context() as patch:
        interrupt(patch, 4)
        with pytest.raises(KeyboardInterrupt):
            load_svhn(folder, None, skip_bad=True)
    decoded.clear()
    with pytest.warns(UserWarning, match="1 of 9 images are left out"):
        data = load_svhn(folder, None, skip_bad=True)
    assert decoded[0] == "train/4.png"
    np.testing.assert_array_equal(data.train.labels, CLASSES["train"][1:])


# trainings


@pytest.mark.slow
def test_a_dry_run_goes_the_whole_way(folder, tmp_path, capsys):
    """From the photos to the numbers that a model reads, by the command line."""
    pytest.importorskip("grain")  # the images stay on the disk
    out = tmp_path / "out"
    options = "--network svhn_lean --steps 2 --batch-size 2 --validation 0.34"
    words = ["--models", "multi_st_cnn-affine", "--out", str(out)]
    data = ["--data-dir", str(folder)]
    assert main(["run", "svhn64", *data, *options.split(), *words]) == 0
    results = json.loads((out / "results.json").read_text())
    assert results["data"]["training_images"] == 4
    assert results["data"]["validation_images"] == 2
    model, prediction = out / "models", tmp_path / "predicted.json"
    pictures = [str(out / "examples" / "0.png"), "--out", str(prediction)]
    assert main(["predict", str(model), *pictures]) == 0
    (entry,) = json.loads(prediction.read_text())["predictions"]
    assert re.fullmatch(r"\d{0,5}", entry["class"])
    assert [sum(place.values()) for place in entry["probabilities"]] == pytest.approx(
        [1] * 5, abs=1e-4
    )
    capsys.readouterr()
    assert main(["evaluate", str(model), *data]) == 0
    shown = capsys.readouterr().out
    assert f"error:  {results['models'][0]['test_error']:.2f}%" in shown
    assert re.search(r"^none +\d", shown, re.M)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cnn", "st_cnn-affine", "multi_st_cnn-affine"])
@pytest.mark.parametrize("side", ["64", "128"])
def test_the_papers_networks_take_two_steps(folder, tmp_path, name, side):
    pytest.importorskip("grain")
    words = ["run", f"svhn{side}", "--data-dir", str(folder), "--models", name]
    options = "--steps 2 --batch-size 2 --validation 0.34"
    assert main([*words, *options.split(), "--out", str(tmp_path / "out")]) == 0


@pytest.mark.parametrize("task", ["rts", "numbers64", "addition", "crops"])
def test_whole_numbers_are_not_distorted(folder, task, capsys):
    words = ["run", "svhn64", "--data-dir", str(folder), "--task", task]
    assert main([*words, "--validation", "0.34"]) == 1
    assert f"which --task {task} cannot distort: use --task plain" in (
        capsys.readouterr().err
    )

"""Datasets in .npz files: names, sizes, and what can be wrong with a file."""

import io
import pickle
import shlex
import struct
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from train.__main__ import main
from train.data import load
from train.data.npz import load_npz
from train.errors import DataError


def arrays(rng, **changes):
    values = {
        "x_train": rng.integers(0, 256, size=(8, 5, 7)).astype(np.uint8),
        "y_train": np.arange(8) % 3,
        "x_test": rng.integers(0, 256, size=(4, 5, 7)).astype(np.uint8),
        "y_test": np.arange(4)[:, None] % 3,
    }
    return {k: v for k, v in (values | changes).items() if v is not None}


def save(path, **values):
    np.savez(path, **values)
    return path


def npy(array):
    """An array in .npy format."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def header(descr, shape, version=1):
    """The header of a file in .npy format, written by hand."""
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape!r}, }}\n"
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text.encode()


def crafted(path, rng, contents, compression=zipfile.ZIP_DEFLATED):
    """An archive in which some members are other bytes than an array."""
    members = {f"{k}.npy": npy(v) for k, v in arrays(rng).items()} | contents
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            if content is not None:
                archive.writestr(name, content)
    return path


def test_an_npz_file_of_any_size_and_number_of_classes(tmp_path, rng):
    values = arrays(rng)
    data = load(str(save(tmp_path / "mine.npz", **values)))
    assert data.name == "mine"
    np.testing.assert_array_equal(data.train.images[..., 0], values["x_train"])
    np.testing.assert_array_equal(data.test.images[..., 0], values["x_test"])
    assert data.train.images.shape == (8, 5, 7, 1)
    assert data.test.labels.tolist() == [0, 1, 2, 0]
    assert data.test.labels.dtype == np.int32
    assert data.classes == ("0", "1", "2")
    assert data.validation is None
    color = rng.uniform(size=(8, 5, 7, 3))
    data = load_npz(
        save(tmp_path / "b.npz", **arrays(rng, x_train=color, x_test=color[:4]))
    )
    assert data.train.images.dtype == np.float32
    assert data.train.images.shape == (8, 5, 7, 3)
    np.testing.assert_allclose(data.train.images, color, atol=1e-7)


def test_compressed_files_and_other_memory_layouts(tmp_path, rng):
    values = arrays(rng)
    values["x_train"] = np.asfortranarray(values["x_train"])
    values["y_train"] = values["y_train"].astype(">i8")
    np.savez_compressed(tmp_path / "MINE.NPZ.npz", **values)
    (tmp_path / "MINE.NPZ.npz").rename(tmp_path / "MINE.NPZ")
    data = load(str(tmp_path / "MINE.NPZ"))
    np.testing.assert_array_equal(data.train.images[..., 0], values["x_train"])
    assert data.train.labels.tolist() == values["y_train"].tolist()
    assert data.train.labels.dtype.isnative


# validation and class names


@pytest.mark.parametrize("suffix", ["val", "valid", "validation"])
def test_a_validation_part(tmp_path, rng, suffix):
    x = rng.integers(0, 256, size=(3, 5, 7, 1)).astype(np.uint8)
    changes = {f"x_{suffix}": x, f"y_{suffix}": np.array([2, 1, 0])}
    data = load_npz(save(tmp_path / "mine.npz", **arrays(rng, **changes)))
    np.testing.assert_array_equal(data.validation.images, x)
    assert data.validation.labels.tolist() == [2, 1, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_val": None}, "lacks y_val; it holds x_train"),
        ({"x_val": None}, "lacks x_val; it holds x_train"),
        ({"x_valid": np.zeros((3, 5, 7))}, "holds x_val and x_valid: name one with "),
        ({"x_val": np.zeros((3, 5, 6))}, r"of .*x_val \(5, 6, 1\)"),
        ({"x_val": np.full((3, 5, 7), 2.0)}, "x_val must be bytes"),
        ({"y_val": np.array([0, 1, 7])}, "y_val holds labels without training.*: 7"),
        ({"y_val": np.zeros(2, int)}, "x_val holds 3 images, .*y_val 2 labels"),
    ],
)
def test_validation_parts_with_something_wrong(tmp_path, rng, changes, message):
    part = {"x_val": np.zeros((3, 5, 7)), "y_val": np.arange(3)} | changes
    path = save(tmp_path / "mine.npz", **arrays(rng, **part))
    with pytest.raises(DataError, match=message):
        load_npz(path)


def test_the_names_of_the_classes(tmp_path, rng):
    names = np.array(["cat", "dog", "eel"])
    data = load_npz(save(tmp_path / "a.npz", **arrays(rng, classes=names)))
    assert data.classes == ("cat", "dog", "eel")
    assert all(type(name) is str for name in data.classes)
    # a class may have no images
    names = np.array(["cat", "dog", "eel", "fox"])
    data = load_npz(save(tmp_path / "b.npz", **arrays(rng, classes=names)))
    assert data.classes[3] == "fox"


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (np.array(["a", "b"]), "holds 2 names, but the labels run from 0 to 2"),
        (np.arange(3), r"classes must be strings \(N,\).* got int64"),
        (np.array([["a", "b", "c"]]), r"must be strings \(N,\)"),
        (np.array(["a", "b", "a"]), "must hold different names"),
        (np.array(["a", "", "b"]), "none of them empty"),
        (np.array(["a", "b", None], object), "holds Python objects"),
    ],
)
def test_names_of_classes_with_something_wrong(tmp_path, rng, classes, message):
    path = save(tmp_path / "mine.npz", **arrays(rng, classes=classes))
    with pytest.raises(DataError, match=message):
        load_npz(path)


# other names


def renamed(rng, names):
    return {names.get(key, key): value for key, value in arrays(rng).items()}


KERAS = {"x_train": "X_train", "y_train": "Y_train", "x_test": "X_test"}
MEDMNIST = {
    "x_train": "train_images",
    "y_train": "train_labels",
    "x_test": "test_images",
    "y_test": "test_labels",
}
QUOTED = {"x_train": "train images", "y_train": "labels-train"}


@pytest.mark.parametrize("names", [KERAS, MEDMNIST, QUOTED])
def test_common_names_are_proposed_and_the_proposal_works(tmp_path, rng, names):
    """They are not used before the user says so."""
    path = save(tmp_path / "mine.npz", **renamed(rng, names))
    with pytest.raises(DataError, match=f"lacks {', '.join(names)}") as info:
        load_npz(path)
    for name in names.values():
        assert name in str(info.value).split("--keys")[0]
    option = str(info.value).partition("--keys ")[2]
    keys = shlex.split(option)
    assert keys == [f"{role}={name}" for role, name in names.items()]
    assert load_npz(path, keys).train.images.shape == (8, 5, 7, 1)


def test_a_proposal_includes_the_validation_part(tmp_path, rng):
    values = renamed(rng, MEDMNIST)
    values |= {"val_images": values["test_images"], "val_labels": np.arange(4) % 2}
    path = save(tmp_path / "mine.npz", **values)
    with pytest.raises(DataError, match=r"x_val=val_images y_val=val_labels$") as info:
        load_npz(path)
    keys = str(info.value).partition("--keys ")[2].split()
    assert load_npz(path, keys).validation.labels.tolist() == [0, 1, 0, 1]


def test_ambiguous_names_are_not_proposed(tmp_path, rng):
    values = arrays(rng, x_train=None)
    values |= dict.fromkeys(("X_train", "train_images"), np.zeros((8, 5, 7)))
    path = save(tmp_path / "mine.npz", **values)
    with pytest.raises(DataError, match=r"lacks x_train; it holds y_train") as info:
        load_npz(path)
    assert "x_train=X_train" not in str(info.value)
    assert "x_train=train_images" not in str(info.value)
    assert "for instance --keys x_train=images" in str(info.value)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["x_train=X"], "--keys x_train=X: .* holds no X; it holds x_train, y_train"),
        (["X=x_train"], "must be one of x_train, y_train, .* got 'X'"),
        (["x_train"], "--keys takes pairs such as x_train=images; got 'x_train'"),
        (["x_train="], "--keys takes pairs"),
        (["x_train=x_train", "x_train=x_test"], "names x_train twice"),
    ],
)
def test_keys_with_something_wrong(tmp_path, rng, keys, message):
    path = save(tmp_path / "mine.npz", **arrays(rng))
    with pytest.raises(DataError, match=message):
        load_npz(path, keys)


def test_keys_take_precedence(tmp_path, rng):
    values = arrays(rng, other=np.zeros((4, 5, 7)), names=np.array(["a", "b", "c"]))
    values |= {"x_val": values["x_test"], "x_valid": values["x_test"]}
    values |= {"y_valid": np.zeros(4, int)}
    keys = ["x_test=other", "classes=names", "x_val=x_valid"]
    data = load_npz(save(tmp_path / "mine.npz", **values), keys)
    assert not data.test.images.any()
    assert data.classes == ("a", "b", "c")
    assert data.validation.labels.tolist() == [0] * 4


def test_keys_from_the_command_line(tmp_path, rng, capsys):
    path = save(tmp_path / "mine.npz", **arrays(rng))
    arguments = ["run", "r-cnn", "--dataset", str(path), "--out", str(tmp_path / "o")]
    assert main([*arguments, "--keys", "x_train=X", "y_train=Y"]) == 1
    assert "holds no X; it holds x_train" in capsys.readouterr().err


# values


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_test": None, "y_test": None}, "lacks x_test, y_test; it holds x_train"),
        ({"y_train": np.zeros(7, int)}, "x_train holds 8 images, .*y_train 7 labels"),
        ({"y_train": np.zeros(8)}, "y_train must be classes .* got float64"),
        ({"x_train": np.full((8, 5, 7), -1.0)}, r"x_train must be .* from -1"),
        ({"x_test": np.zeros((4, 5, 5), np.uint8)}, "the shapes must be equal"),
        ({"y_test": np.array([0, 1, 2, 9])}, "y_test holds labels without .*: 9"),
        ({"y_train": np.arange(8) % 3 + 1}, "y_train: the labels run from 1 to 3"),
    ],
)
def test_an_npz_file_with_something_wrong(tmp_path, rng, changes, message):
    path = save(tmp_path / "mine.npz", **arrays(rng, **changes))
    with pytest.raises(DataError, match=message) as info:
        load_npz(path)
    assert str(path) in str(info.value)


# damaged files


def test_damaged_npz_files(tmp_path, rng):
    path = save(tmp_path / "mine.npz", **arrays(rng))
    whole = path.read_bytes()
    for content in (whole[:-40], whole[: len(whole) // 2], b"", b"hello"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"truncated, corrupted, or not an .npz"):
            load_npz(path)
    with pytest.raises(DataError, match=r"no such file"):
        load_npz(tmp_path / "none.npz")


@pytest.mark.parametrize("compressed", [False, True])
def test_any_changed_byte_is_an_error_or_without_effect(tmp_path, rng, compressed):
    """Never a traceback; the checksums protect the contents."""
    path = tmp_path / "mine.npz"
    values = arrays(rng)
    (np.savez_compressed if compressed else np.savez)(path, **values)
    whole = path.read_bytes()
    failed = 0
    for index in range(0, len(whole), 3):
        changed = bytearray(whole)
        changed[index] ^= 1 << index % 8
        path.write_bytes(changed)
        try:
            data = load_npz(path)
        except DataError as error:
            failed += str(path) in str(error)
        else:
            np.testing.assert_array_equal(data.train.images[..., 0], values["x_train"])
            np.testing.assert_array_equal(data.train.labels, values["y_train"])
    assert failed > len(whole) / 6


def test_any_truncation_is_an_error(tmp_path, rng):
    path = tmp_path / "mine.npz"
    np.savez_compressed(path, **arrays(rng))
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, 7):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"mine.npz"):
            load_npz(path)


def test_a_corrupt_deflate_stream(tmp_path, rng):
    path = tmp_path / "mine.npz"
    np.savez_compressed(path, **arrays(rng, x_train=np.zeros((8, 300, 300))))
    whole = bytearray(path.read_bytes())
    start = whole.index(b"x_train.npy") + 100  # behind the header of the member
    whole[start : start + 40] = b"\xff" * 40
    path.write_bytes(whole)
    with pytest.raises(DataError, match=r"truncated, corrupted, or not"):
        load_npz(path)


HUNDRED_TB = (10**7, 10**7)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps({"a": 1}), "x_train is not an array in .npy format"),
        (b"\x93NUMPY", "x_train is not an array in .npy format"),
        (b"", "x_train is not an array in .npy format"),
        (header("|u1", HUNDRED_TB) + bytes(50), "expected 100,000,000,000,000 bytes"),
        (header("|u1", (8, 5, 7)) + bytes(279), "expected 280 bytes .* got 279"),
        (header("|u1", (8, 5, 7)) + bytes(281), "expected 280 bytes .* got 281"),
        (header("|u1", (-8, -35)) + bytes(280), r"its shape is \(-8, -35\)"),
        (header("|u1", (0, 10**30)), "x_train|corrupted"),
        (header("|u1", (1,) * 300) + b"x", "mine.npz"),
        (header("|u1", (8, 5, 7), version=3), "is not an array in .npy format"),
        (header("|O", (8,)) + pickle.dumps([1]), "holds Python objects .pickled."),
        (header([("a", "<f4")], (8,)) + bytes(32), r"the structured dtype .*'a'"),
        (header("|V4", (8,)) + bytes(32), "the structured dtype"),
        (header("nonsense", (8,)), "truncated, corrupted, or not an .npz"),
        (b"\x93NUMPY\1\0\x08\0(((((((\n", "truncated, corrupted, or not an .npz"),
        (b"\x93NUMPY\2\0\xff\xff\xff\xff" + bytes(99), "truncated, corrupted, or not"),
        (npy(np.array(["a"] * 8)), "x_train must be .N, H, W"),
        (npy(np.array([[["a"]]] * 8)), "floats in .0, 1.; got <U1"),
        (npy(np.zeros((8, 5, 7), complex)), "floats in .0, 1.; got complex128"),
        (npy(np.zeros((8, 5, 7), "M8[s]")), "floats in .0, 1.; got datetime64"),
    ],
)
def test_members_that_are_no_images(tmp_path, rng, content, message):
    path = crafted(tmp_path / "mine.npz", rng, {"x_train.npy": content})
    with pytest.raises(DataError, match=message) as info:
        load_npz(path)
    assert str(path) in str(info.value)


def test_a_pickle_is_not_executed(tmp_path, rng):
    class Harmful:
        def __reduce__(self):
            return Path.touch, (tmp_path / "executed",)

    content = npy(np.array([Harmful()] * 8, object))
    path = crafted(tmp_path / "mine.npz", rng, {"y_train.npy": content})
    with pytest.raises(DataError, match=r"y_train holds Python objects"):
        load_npz(path)
    assert not (tmp_path / "executed").exists()


def test_a_member_without_the_suffix_is_an_array_if_it_is_one(tmp_path, rng):
    x = npy(np.ones((8, 5, 7)))
    members = {"x_train.npy": None, "x_train": x, "notes.txt": b"mine"}
    data = load_npz(crafted(tmp_path / "mine.npz", rng, members))
    assert data.train.images.all()
    path = crafted(tmp_path / "b.npz", rng, {"x_train.npy": None, "x_train": b"text"})
    with pytest.raises(DataError, match=r"x_train is not an array in .npy format"):
        load_npz(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicate_names(tmp_path, rng):
    path = save(tmp_path / "mine.npz", **arrays(rng))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x_train.npy", npy(np.zeros((8, 5, 7))))
    with pytest.raises(DataError, match=r"holds 2 arrays named x_train"):
        load_npz(path)


def test_an_encrypted_archive(tmp_path, rng):
    """The flag alone: Python writes no encrypted archives."""
    path = save(tmp_path / "mine.npz", **arrays(rng))
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(signature) + offset] |= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"x_train is encrypted. Store it without"):
        load_npz(path)


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_archives_that_expand_without_a_bound(tmp_path, rng, compression):
    path = crafted(tmp_path / "mine.npz", rng, {}, compression)
    with pytest.raises(DataError, match=r"compressed by an unusual method"):
        load_npz(path)


def test_what_is_in_place_of_the_file(tmp_path, monkeypatch):
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(DataError, match=r"folder.npz is a folder"):
        load(str(tmp_path / "folder.npz"))
    with pytest.raises(DataError, match=r"cannot be read .File name too long."):
        load("n" * 300 + ".npz")
    (tmp_path / "loop.npz").symlink_to(tmp_path / "loop.npz")
    with pytest.raises(DataError, match=r"cannot be read .*symbolic links"):
        load(str(tmp_path / "loop.npz"))

    def denied(*args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(DataError, match=r"cannot be read .Permission denied."):
        load(str(tmp_path / "mine.npz"))


def test_long_names_are_shortened(tmp_path, rng):
    values = arrays(rng, x_train=None)
    values |= {f"{index:02}" + "n" * 300: np.zeros(1) for index in range(30)}
    path = save(tmp_path / "mine.npz", **values)
    with pytest.raises(DataError, match=r"lacks x_train; .* and 21 more") as info:
        load_npz(path)
    assert len(str(info.value)) < len(str(path)) + 1200
    with pytest.raises(DataError, match=r"00n+\.\.\. must be"):
        load_npz(path, ["x_train=00" + "n" * 300])


# the limit of the size


def bomb(path, rng, num_bytes):
    """An archive of about num_bytes / 1000 bytes."""
    content = header("|u1", (num_bytes // 10**6, 1000, 1000)) + bytes(num_bytes)
    return crafted(path, rng, {"x_train.npy": content})


def test_a_file_that_expands_beyond_the_limit_is_not_expanded(tmp_path, rng):
    path = bomb(tmp_path / "mine.npz", rng, 200 * 10**6)
    assert path.stat().st_size < 10**6
    tracemalloc.start()
    start = time.perf_counter()
    with pytest.raises(
        DataError, match=r"needs 0.2 GB .*; the limit is 0.01 GB.*--data-limit 1\."
    ):
        load_npz(path, limit=0.01)
    seconds = time.perf_counter() - start
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10**6
    assert seconds < 1


def test_the_limit_is_that_of_all_arrays_together(tmp_path, rng):
    values = arrays(rng)
    sizes = sum(array.nbytes for array in values.values())
    path = save(tmp_path / "mine.npz", unused=np.zeros(10**5), **values)
    assert load_npz(path, limit=sizes / 1e9)
    with pytest.raises(DataError, match=r"--data-limit"):
        load_npz(path, limit=(sizes - 1) / 1e9)


def test_a_zip_directory_that_claims_too_much(tmp_path, rng):
    """The directory and the header agree on a size that the file does not have."""
    path = tmp_path / "mine.npz"
    content = header("|u1", (1000, 1000, 4)) + bytes(10)
    crafted(path, rng, {"x_train.npy": content}, zipfile.ZIP_STORED)
    whole = bytearray(path.read_bytes())
    claimed = len(content) - 10 + 4 * 10**6
    entry = whole.index(b"x_train.npy", whole.index(b"PK\1\2")) - 46
    whole[entry + 24 : entry + 28] = struct.pack("<I", claimed)
    path.write_bytes(whole)
    with pytest.raises(DataError, match=r"limit is 0.001 GB"):
        load_npz(path, limit=0.001)
    with pytest.raises(DataError, match=r"truncated, corrupted, or not an .npz"):
        load_npz(path)


def test_a_header_that_expands(tmp_path, rng):
    """The header of version 2 may claim 4 GB; it is not decompressed to see."""
    content = b"\x93NUMPY\2\0" + struct.pack("<I", 10**8) + bytes(10**8)
    path = crafted(tmp_path / "mine.npz", rng, {"x_train.npy": content})
    tracemalloc.start()
    with pytest.raises(DataError, match=r"truncated, corrupted, or not an .npz"):
        load_npz(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10**6

"""Sources of data, and their errors."""

import dataclasses
import functools
import gzip
import http.server
import json
import re
import shutil
import socket
import struct
import tempfile
import threading
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from train.configs import Colocalization, Source, Training, settings_of
from train.data import Dataset, Split, load, load_source, sha256_of
from train.data.idx import MNIST_FILES, read_idx, read_mnist
from train.errors import ConfigError, DataError


def idx_bytes(array):
    header = (
        b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    )
    return header + array.astype(np.uint8).tobytes()


def test_the_embedded_digits():
    data = load("digits")
    assert data.train.images.shape == (1297, 28, 28, 1)
    assert data.test.images.shape == (500, 28, 28, 1)
    assert data.train.images.dtype == np.uint8
    assert data.train.images.max() == 255
    assert set(data.test.labels) == set(range(10))
    frame = np.ones((28, 28), bool)
    frame[4:24, 4:24] = False
    assert not data.train.images[:, frame].any()  # within 20x20, as MNIST's


@pytest.mark.parametrize("dataset", ["imagenet", "mnist.npy", ""])
def test_an_unknown_dataset(dataset):
    with pytest.raises(
        DataError,
        match=r"must be digits, mnist, svhn, svhn_cropped, cub, or the path of",
    ):
        load(dataset)


def test_a_folder_goes_with_datasets_that_are_distributed_as_files(tmp_path):
    with pytest.raises(
        DataError, match=r"--data-dir goes with --dataset mnist, svhn, "
    ):
        load("digits", tmp_path)


# IDX files


@pytest.mark.parametrize("zipped", [False, True])
def test_idx_files_are_read_as_they_are_or_gzipped(tmp_path, rng, zipped):
    array = rng.integers(0, 256, size=(3, 4, 5)).astype(np.uint8)
    content = idx_bytes(array)
    path = tmp_path / ("some.gz" if zipped else "some")
    path.write_bytes(gzip.compress(content) if zipped else content)
    np.testing.assert_array_equal(read_idx(path), array)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda b: b[:-1], "truncated: expected 76 bytes by its header, got 75"),
        (lambda b: b + b"x", "too long: expected 76 bytes by its header, got 77"),
        (lambda b: b[:9], "is not an IDX file of bytes"),
        (lambda b: b"", "is not an IDX file of bytes"),
        (lambda b: b"<html>not found</html>", "is not an IDX file of bytes"),
        (
            lambda b: b[:20] + b"\xff" + b[21:],
            "corrupted, or not MNIST's: expected the SHA-256",
        ),
    ],
)
def test_damaged_idx_files(tmp_path, damage, message):
    content = idx_bytes(np.zeros((3, 4, 5), np.uint8))
    path = tmp_path / "some-idx3-ubyte"
    path.write_bytes(damage(content))
    import hashlib

    with pytest.raises(DataError, match=message) as info:
        read_idx(path, hashlib.sha256(content).hexdigest())
    assert str(path) in str(info.value)
    assert "What you can do" in str(info.value)


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-20], lambda b: b[:30] + b"\0\0\0" + b[33:], lambda b: b"x"]
)
def test_damaged_gzip_files(tmp_path, damage, rng):
    path = tmp_path / "some-idx1-ubyte.gz"
    content = idx_bytes(rng.integers(0, 256, size=1000))
    path.write_bytes(damage(gzip.compress(content)))
    with pytest.raises(
        DataError, match=r"some-idx1-ubyte.gz is (truncated|corrupted|not)"
    ):
        read_idx(path)


def test_a_folder_without_the_files(tmp_path):
    with pytest.raises(DataError, match=r"is not a folder"):
        read_mnist(tmp_path / "nowhere")
    (tmp_path / "train-images-idx3-ubyte").write_bytes(b"")
    with pytest.raises(DataError, match=r"lacks train-labels-idx1-ubyte, t10k-images"):
        read_mnist(tmp_path)


def test_the_real_mnist(mnist_dir):
    data = load("mnist", mnist_dir)
    assert data.train.images.shape == (60_000, 28, 28, 1)
    assert data.test.images.shape == (10_000, 28, 28, 1)
    assert data.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert data.test.labels[:5].tolist() == [7, 2, 1, 0, 4]


def test_a_flipped_bit_in_the_real_mnist_is_noticed(mnist_dir, tmp_path):
    for name in MNIST_FILES:
        shutil.copy(mnist_dir / f"{name}.gz", tmp_path)
    victim = tmp_path / "t10k-labels-idx1-ubyte"
    content = bytearray(gzip.decompress((tmp_path / f"{victim.name}.gz").read_bytes()))
    content[100] ^= 1
    victim.write_bytes(content)
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte is corrupted"):
        load("mnist", tmp_path)


# the limit of the size


def gzipped_zeros(path, shape, num_bytes):
    """An IDX file that announces a shape and holds ``num_bytes`` zeros."""
    header = b"\0\0\x08" + bytes([len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(header)
        for _ in range(num_bytes // 2**20):
            file.write(bytes(2**20))
    return path


def test_idx_files_are_decompressed_no_further_than_their_header(tmp_path):
    path = gzipped_zeros(tmp_path / "some.gz", (10,), 2**28)
    tracemalloc.start()
    with pytest.raises(
        DataError, match=r"too long: expected 18 bytes .* got 19 or more"
    ):
        read_idx(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24


def test_the_header_of_an_idx_file_is_compared_with_the_limit(tmp_path):
    path = gzipped_zeros(tmp_path / "some.gz", (2**31, 1000), 2**20)
    message = r"needs 2,147 GB .*; the limit is 8 GB.*--data-limit 2148"
    with pytest.raises(DataError, match=message):
        read_idx(path)
    small = gzipped_zeros(tmp_path / "small.gz", (2**20,), 2**20)
    assert read_idx(small).shape == (2**20,)
    with pytest.raises(DataError, match=r"limit is 0.001 GB"):
        read_idx(small, limit=0.001)


def test_a_header_that_announces_more_than_there_is_costs_no_memory(tmp_path):
    path = tmp_path / "some"
    path.write_bytes(b"\0\0\x08\1" + struct.pack(">I", 2**32 - 1) + b"few")
    tracemalloc.start()
    with pytest.raises(DataError, match=r"is truncated: expected 4294967303 bytes"):
        read_idx(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**26


@pytest.mark.parametrize("ndim", [0, 33, 65, 255])
def test_idx_files_with_too_many_axes_or_none(tmp_path, ndim):
    path = tmp_path / "some"
    path.write_bytes(b"\0\0\x08" + bytes([ndim]) + struct.pack(">I", 1) * ndim + b"x")
    with pytest.raises(DataError, match=r"is not an IDX file of bytes"):
        read_idx(path)


def test_the_limit_applies_to_mnist(mnist_dir):
    with pytest.raises(DataError, match=r"train-images.* needs 0.047 GB .*0.01 GB"):
        load("mnist", mnist_dir, limit=0.01)


# the options


@pytest.mark.parametrize(
    ("dataset", "options", "message"),
    [
        ("mnist", {"keys": ("x_train=x",)}, "--keys goes with --dataset FILE.npz"),
        (
            "a.npz",
            {"image_size": (2, 2)},
            "--image-size goes with --dataset svhn, cub and folders",
        ),
        (".", {"keys": ("x_train=x",)}, "--keys goes with --dataset FILE.npz"),
        ("n" * 300, {}, "name too long"),
        (__file__, {}, "a file of another kind"),
    ],
)
def test_options_of_other_sources(dataset, options, message):
    with pytest.raises(DataError, match=f"(?i){message}"):
        load(dataset, **options)


def test_a_folder_of_mnist_with_an_impossible_name():
    with pytest.raises(DataError, match=r"is not a folder"):
        read_mnist(Path("n" * 300))


def test_too_little_memory_is_an_error(monkeypatch):
    def fail():
        raise MemoryError

    monkeypatch.setattr("train.data.sources.load_digits", fail)
    with pytest.raises(DataError, match=r"the memory does not suffice for digits"):
        load("digits")


def test_a_configuration_names_its_source(tmp_path):
    rng = np.random.default_rng(0)
    names = {"images": "x_train", "labels": "y_train", "x_test": "x_test"}
    values = {name: rng.uniform(size=(4, 3, 3)) for name in names}
    values |= {"labels": np.arange(4) % 2, "y_test": np.zeros(4, int)}
    np.savez(tmp_path / "mine.npz", **values)
    source = Source(
        dataset=str(tmp_path / "mine.npz"), keys=("x_train=images", "y_train=labels")
    )
    data = load_source(source)
    np.testing.assert_allclose(data.train.images[..., 0], values["images"], atol=1e-7)
    with pytest.raises(DataError, match=r"limit is 1e-07 GB"):
        load_source(dataclasses.replace(source, data_limit=1e-7))
    with pytest.raises(DataError, match=r"--data-dir goes with"):
        load_source(dataclasses.replace(source, data_dir=tmp_path))
    with pytest.raises(DataError, match=r"--image-size goes with"):
        load_source(dataclasses.replace(source, image_size=(2, 2)))


@pytest.mark.parametrize(
    "changes",
    [
        {"image_size": (0, 3)},
        {"image_size": (3, -1)},
        {"data_limit": 0},
        {"data_limit": float("nan")},
        {"data_limit": float("inf")},
    ],
)
@pytest.mark.parametrize("kind", [Source, Training, Colocalization])
def test_sources_that_cannot_be(kind, changes):
    with pytest.raises(ConfigError, match=next(iter(changes))):
        kind(**changes)


def test_the_settings_of_the_data():
    """The limit does not change the results; the names and the size do."""
    before = settings_of(Colocalization())
    assert (before["keys"], before["image_size"]) == ([], None)
    assert settings_of(Colocalization(data_limit=1.0)) == before
    after = settings_of(Colocalization(keys=("x_train=a",), image_size=(2, 3)))
    assert (after["keys"], after["image_size"]) == (["x_train=a"], [2, 3])
    assert json.loads(json.dumps(after)) == after


# the digest


def small_dataset():
    images = np.arange(24, dtype=np.uint8).reshape(2, 3, 4, 1)
    split = Split(images, np.array([0, 1], np.int32))
    return Dataset("some", split, split, ("a", "b"))


def test_the_digest_of_a_dataset():
    data = small_dataset()
    digest = sha256_of(data)
    assert re.fullmatch("[0-9a-f]{64}", digest)
    assert sha256_of(small_dataset()._replace(name="other")) == digest
    # not of the memory's layout
    fortran = data.train._replace(images=np.asfortranarray(data.train.images))
    assert sha256_of(data._replace(train=fortran)) == digest


@pytest.mark.parametrize(
    "change",
    [
        lambda data: {"classes": ("a", "c")},
        lambda data: {"classes": ("ab",)},
        lambda data: {"validation": data.test},
        lambda data: {"train": data.train._replace(images=data.train.images + 1)},
        lambda data: {"test": data.test._replace(images=data.test.images + 1)},
        lambda data: {"test": data.test._replace(labels=data.test.labels[::-1])},
        lambda data: {"test": data.test._replace(labels=data.test.labels.view("f4"))},
        lambda data: {
            "train": data.train._replace(images=data.train.images.reshape(2, 4, 3, 1))
        },
    ],
)
def test_the_digest_depends_on_every_part(change):
    data = small_dataset()
    assert sha256_of(data._replace(**change(data))) != sha256_of(data)


def test_the_digest_does_not_copy(monkeypatch):
    images = np.zeros((64, 512, 512, 1), np.uint8)
    split = Split(images, np.zeros(64, np.int32))
    tracemalloc.start()
    sha256_of(Dataset("some", split, split, ("a", "b")))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


# the download


@functools.cache
def local_mnist():
    """A class of its own, once: TFDS registers every builder by its name."""
    from train.data.mnist import MnistBytes

    return type("LocalMnist", (MnistBytes,), {})


@pytest.fixture
def builder(tmp_path):
    """A builder that downloads from a server of this machine."""
    mnist = pytest.importorskip("train.data.mnist")
    files = tmp_path / "server"
    files.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            local.asked.append(self.path)
            super().do_GET()

        def log_message(self, *args):
            pass

    handler = functools.partial(Handler, directory=files)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/"

    local = local_mnist()
    local.url, local.files, local.asked = address, files, []
    local.url_infos = {
        url.replace(mnist.URL, address): info
        for url, info in mnist.MnistBytes.url_infos.items()
    }
    yield local
    server.shutdown()
    server.server_close()


def leftovers(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.slow
def test_the_download_gives_the_files_themselves(mnist_dir, tmp_path, builder):
    from train.data.mnist import download

    for name in MNIST_FILES:
        shutil.copy(mnist_dir / f"{name}.gz", builder.files)
    here = load("mnist", mnist_dir)
    for _ in range(2):  # the second time from the cache
        splits = download(builder, data_dir=tmp_path / "cache")
        np.testing.assert_array_equal(splits["train"][0], here.train.images[..., 0])
        np.testing.assert_array_equal(splits["train"][1], here.train.labels)
        np.testing.assert_array_equal(splits["test"][0], here.test.images[..., 0])
        np.testing.assert_array_equal(splits["test"][1], here.test.labels)
        shutil.rmtree(builder.files, ignore_errors=True)


def test_a_download_of_other_bytes_leaves_nothing_behind(
    tmp_path, monkeypatch, builder
):
    from train.data.mnist import download

    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    for name in MNIST_FILES:
        content = gzip.compress(idx_bytes(np.zeros(10)))
        (builder.files / f"{name}.gz").write_bytes(content)
    with pytest.raises(
        DataError, match=r"could not be downloaded.*[Cc]hecksum"
    ) as info:
        download(builder, data_dir=tmp_path / "cache")
    assert builder.url in str(info.value)
    # no other download may still be writing when the folder is removed
    assert len(builder.asked) == 1
    assert not leftovers(tmp_path / "cache")
    assert not leftovers(tmp_path / "temporary")


def test_a_server_without_the_files(tmp_path, builder):
    from train.data.mnist import download

    with pytest.raises(
        DataError, match=r"cannot be downloaded from .*: HTTP Error 404"
    ):
        download(builder, data_dir=tmp_path / "cache")
    assert not leftovers(tmp_path / "cache")


@pytest.mark.parametrize("why", ["refused", "silent", "unknown"])
def test_no_answer_is_an_error_within_ten_seconds(tmp_path, builder, why):
    from train.data.mnist import download

    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        if why == "refused":
            silent.close()
        host = "no-such-host.invalid" if why == "unknown" else "127.0.0.1"
        builder.url = f"http://{host}:{port}/"
        start = time.perf_counter()
        with pytest.raises(DataError, match=r"cannot be downloaded") as info:
            download(builder, data_dir=tmp_path / "cache")
        assert time.perf_counter() - start < 10
    assert builder.url in str(info.value)
    assert "--dataset digits" in str(info.value)
    assert not leftovers(tmp_path / "cache")

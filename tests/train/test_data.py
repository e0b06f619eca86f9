"""Sources of data, and their errors."""

import functools
import gzip
import http.server
import shutil
import socket
import struct
import tempfile
import threading
import time

import numpy as np
import pytest

from train.data import load, load_npz
from train.errors import DataError
from train.idx import MNIST_FILES, read_idx, read_mnist


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
        DataError, match=r"must be digits, mnist or the path of an .npz"
    ):
        load(dataset)


def test_a_folder_goes_with_mnist_alone(tmp_path):
    with pytest.raises(DataError, match="--data-dir goes with --dataset mnist"):
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
    with pytest.raises(DataError, match="is not a folder"):
        read_mnist(tmp_path / "nowhere")
    (tmp_path / "train-images-idx3-ubyte").write_bytes(b"")
    with pytest.raises(DataError, match="lacks train-labels-idx1-ubyte, t10k-images"):
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
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte is corrupted"):
        load("mnist", tmp_path)


# .npz files


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


def test_an_npz_file_of_any_size_and_number_of_classes(tmp_path, rng):
    data = load(str(save(tmp_path / "mine.npz", **arrays(rng))))
    assert data.name == "mine"
    assert data.train.images.shape == (8, 5, 7, 1)
    assert data.test.labels.tolist() == [0, 1, 2, 0]
    assert data.classes == ("0", "1", "2")
    color = rng.uniform(size=(8, 5, 7, 3))
    data = load_npz(
        save(tmp_path / "b.npz", **arrays(rng, x_train=color, x_test=color[:4]))
    )
    assert data.train.images.dtype == np.float32
    assert data.train.images.shape == (8, 5, 7, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_test": None, "y_test": None}, "lacks x_test, y_test; it holds x_train"),
        ({"y_train": np.zeros(7, int)}, "x_train holds 8 images, y_train 7 labels"),
        ({"y_train": np.zeros(8)}, "y_train must be classes .* got float64"),
        ({"y_train": -np.ones(8, int)}, "y_train must be classes"),
        ({"y_train": np.eye(8, dtype=int)}, r"y_train must be classes .* \(8, 8\)"),
        ({"x_train": np.zeros((8, 35), np.uint8)}, r"x_train must be .* got \(8, 35\)"),
        (
            {"x_train": np.full((8, 5, 7), -1.0)},
            r"floats in \[0, 1\]; got float64 from -1",
        ),
        ({"x_train": np.full((8, 5, 7), np.nan)}, r"floats in \[0, 1\]"),
        ({"x_train": np.zeros((8, 5, 7), int)}, r"must be bytes .*got int64"),
        ({"x_test": np.zeros((4, 5, 5), np.uint8)}, "the shapes must be equal"),
        ({"y_test": np.array([{}, 1, 2, 3])}, "allow_pickle"),
    ],
)
def test_an_npz_file_with_something_wrong(tmp_path, rng, changes, message):
    path = save(tmp_path / "mine.npz", **arrays(rng, **changes))
    with pytest.raises(DataError, match=message) as info:
        load_npz(path)
    assert str(path) in str(info.value)


def test_damaged_npz_files(tmp_path, rng):
    path = save(tmp_path / "mine.npz", **arrays(rng))
    whole = path.read_bytes()
    for content in (whole[:-40], whole[: len(whole) // 2], b"", b"hello"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"truncated, corrupted, or not an .npz"):
            load_npz(path)
    with pytest.raises(DataError, match="no such file"):
        load_npz(tmp_path / "none.npz")


# the download


@functools.cache
def local_mnist():
    """A class of its own, once: TFDS registers every builder by its name."""
    from train.mnist import MnistBytes

    return type("LocalMnist", (MnistBytes,), {})


@pytest.fixture
def builder(tmp_path):
    """A builder that downloads from a server of this machine."""
    mnist = pytest.importorskip("train.mnist")
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
    from train.mnist import download

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
    from train.mnist import download

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
    from train.mnist import download

    with pytest.raises(
        DataError, match=r"cannot be downloaded from .*: HTTP Error 404"
    ):
        download(builder, data_dir=tmp_path / "cache")
    assert not leftovers(tmp_path / "cache")


@pytest.mark.parametrize("why", ["refused", "silent", "unknown"])
def test_no_answer_is_an_error_within_ten_seconds(tmp_path, builder, why):
    from train.mnist import download

    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        if why == "refused":
            silent.close()
        host = "no-such-host.invalid" if why == "unknown" else "127.0.0.1"
        builder.url = f"http://{host}:{port}/"
        start = time.perf_counter()
        with pytest.raises(DataError, match="cannot be downloaded") as info:
            download(builder, data_dir=tmp_path / "cache")
        assert time.perf_counter() - start < 10
    assert builder.url in str(info.value)
    assert "--dataset digits" in str(info.value)
    assert not leftovers(tmp_path / "cache")

"""What all tests share: where MNIST lies, double precision, strict promotion."""

import contextlib
import gc
import os
from pathlib import Path

# plain JAX, whatever has been compiled here
os.environ.setdefault("STN_JAX_CPU", "off")

import jax
import numpy as np
import pytest
from filelock import FileLock

from stn_jax.sampling.cpu import build, packaged

ROOT = Path(__file__).parents[1]
MAPS = Path("/proc/self/maps")  # on Linux

jax.config.update("jax_num_cpu_devices", 2)  # for what is spread over devices

collect_ignore = ["fixtures"]  # what makes them needs PyTorch


def enable_x64():
    """A context in which JAX's default is float64."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    from jax.experimental import enable_x64  # before jax 0.8

    return enable_x64(True)


@pytest.fixture
def x64():
    """Float64 for the length of a test."""
    with enable_x64():
        yield


def mapped_areas():
    """How many areas of memory this process has mapped; None where that is unknown."""
    return MAPS.read_bytes().count(b"\n") if MAPS.exists() else None


@pytest.fixture(scope="module", autouse=True)
def room_for_programs():
    """Forget compiled programs where they are near Linux's limit of 65,530 areas.

    A program takes 9 of them and more, a volume sampled by bspline5 hundreds. Beyond
    the limit jaxlib ends the process with a segmentation fault.
    """
    yield
    if (mapped_areas() or 0) > 30_000:
        jax.clear_caches()
        gc.collect()


@contextlib.contextmanager
def no_promotion():
    """JAX as its strictest users set it: no promotion of dtypes or ranks."""
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture
def strict():
    with no_promotion():
        yield


@pytest.fixture
def rng():
    return np.random.default_rng(2015)


@pytest.fixture(scope="session")
def torch_fixtures():
    """What PyTorch computes; see fixtures/make_torch_fixtures.py."""
    return np.load(ROOT / "tests" / "fixtures" / "torch.npz")


def made_once(tmp_path_factory, name, make):
    """A folder that ``make`` fills: one of pytest's workers calls it, all read it."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    path = folder / name
    with FileLock(folder / f"{name}.lock"):
        if not path.exists():
            make(path)
    return path


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The folder of a run of two small models, cnn and st_cnn-affine, on digits.

    Tests that write to it work on a copy.
    """
    from train.__main__ import main

    options = "--dataset digits --parameters 60000 --steps 60 --batch-size 32"
    options += " --eval-every 30 --models cnn st_cnn-affine"

    def make(out):
        assert main(["run", "rts", *options.split(), "--out", str(out)]) == 0

    return made_once(tmp_path_factory, "trained", make)


@pytest.fixture(scope="session")
def mnist_dir():
    """The folder with the real MNIST, named by MNIST_DIR."""
    folder = os.environ.get("MNIST_DIR")
    if not folder:
        pytest.skip("MNIST_DIR does not name a folder with MNIST's four files")
    return Path(folder)


@pytest.fixture(scope="session")
def library():
    """A folder for the user's cache, with the kernel in it; compiled once.

    With STN_JAX_TEST_KERNEL=package it is empty: the tests use the package's kernel.
    """
    if os.environ.get("STN_JAX_TEST_KERNEL") == "package":
        assert packaged.packaged_path() is not None, "the package has no kernel"
        return ROOT / ".cache" / "empty"
    folder = ROOT / ".cache" / "kernel"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"), pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        umask = os.umask(0)  # the library is private even so
        path = build.ensure_built()
        os.umask(umask)
        for other in path.parent.glob("kernel-*"):  # of an earlier source
            if other.stem != path.stem:
                other.unlink()
    return folder


@pytest.fixture
def kernel(monkeypatch, library):
    """Programs compiled from here on call the kernel."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(library))
    monkeypatch.setenv("STN_JAX_CPU", "on")

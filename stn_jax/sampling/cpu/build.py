"""Compile the CPU kernel for this CPU into the user's cache, and load it from there.

Each combination of source, compiler options, jaxlib and CPU has a library of its own. A
record beside it holds its size and digest.
"""

from __future__ import annotations

import functools
import os
import platform
import tempfile
from importlib.metadata import version
from pathlib import Path

import jax

from . import compiler, library, trust, variants


def own_path() -> Path:
    """Return the path of the library in the user's cache, whether it exists or not.

    Raises:
      RuntimeError: the environment names no folder for the cache.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not cache.is_absolute():  # the XDG specification says to ignore such a path
        cache = _home() / ".cache"
    return cache / "stn_jax" / f"kernel-{_key()}.so"


@functools.cache
def _key() -> str:
    features = " ".join(sorted(variants.features()))
    machine = platform.system(), platform.machine(), *platform.libc_ver(), features
    return compiler.digest(version("jaxlib"), *machine)


def _home() -> Path:
    try:
        home = Path.home()
    except RuntimeError:
        home = Path()
    if not home.is_absolute():
        raise RuntimeError(
            "the home folder is unknown; set XDG_CACHE_HOME to an absolute path"
        )
    return home


def load_own(path: Path) -> library.Library:
    """Load a library of the cache, after checking its owner, size and digest.

    Raises:
      RuntimeError: it must not or cannot be loaded; the message says why.
    """
    return library.loaded(path, trust.read(path), trust.read(path.with_suffix(".json")))


def ensure_built() -> Path:
    """Compile the kernel, unless the cache has a library that can be loaded.

    Returns:
      The path of the library.

    Raises:
      RuntimeError: no compiler was found (``CXX`` may name one), it failed, the cache
        cannot be written to, or the cache belongs to another user.
    """
    path = own_path()
    if library.fault(load_own, path) is None:
        return path
    native = ["-march=native"] if platform.machine() in ("x86_64", "AMD64") else []
    try:
        trust.make_folder(path.parent)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            made = Path(folder) / path.name
            compiler.compile_kernel(made, jax.ffi.include_dir(), *native)
            library.functions(made)  # fails here rather than in the first sample
            for file in (made, made.with_suffix(".json")):
                file.chmod(0o600)  # the umask may let the group write
                _replace(file, path.with_suffix(file.suffix))
    except OSError as error:
        raise RuntimeError(f"{path} cannot be written: {error}") from error
    return path


def _replace(file: Path, target: Path) -> None:
    """Move a file to its place in one step. A folder there is kept under a new name."""
    if target.is_dir() and not target.is_symlink():
        target.rename(tempfile.mkdtemp(prefix=f"{target.name}.", dir=target.parent))
    file.replace(target)

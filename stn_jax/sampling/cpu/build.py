"""Compile the CPU kernel into the user's cache, and load it from there.

Each combination of source, compiler flags, jaxlib and CPU has a library of its own. A
record beside it holds its size and digest. A library is loaded only if it agrees with
its record, since loading a truncated library would end the process.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import json
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from . import trust

SOURCE = Path(__file__).with_name("kernel.cpp")
FUNCTIONS = ("stn_jax_cpu_values", "stn_jax_cpu_cotangents")  # defined in the source
FLAGS = ("-std=c++20", "-O3", "-fno-math-errno", "-fno-trapping-math", "-fopenmp-simd")
COMPILERS = ("c++", "g++", "clang++")


def library_path() -> Path:
    """Return the path of the library in the user's cache, whether it exists or not.

    Raises:
      RuntimeError: the environment names no folder for the cache.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not cache.is_absolute():  # the XDG specification says to ignore such a path
        cache = _home() / ".cache"
    return cache / "stn_jax" / f"kernel-{_key()}.so"


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


@functools.cache
def _key() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    features = [line for line in lines if line.startswith(("flags", "Features"))][:1]
    machine = platform.system(), platform.machine(), *platform.libc_ver(), *features
    text = "\n".join([SOURCE.read_text(), version("jaxlib"), *FLAGS, *machine])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# loading


def load(path: Path) -> dict[str, Any]:
    """Load a library of the cache, after checking its owner, size and digest.

    Returns:
      Its ``FUNCTIONS`` by name.

    Raises:
      RuntimeError: it must not or cannot be loaded; the message says why.
    """
    record = path.with_suffix(".json")
    if _record(trust.read(path)) != trust.read(record):
        raise RuntimeError(f"the size or digest of {path} is not the one in {record}")
    return _load(path)


def fault(path: Path) -> str | None:
    """Return why the library cannot be loaded, or None if it can be."""
    try:
        load(path)
    except RuntimeError as error:
        return str(error)
    return None


def _record(library: bytes) -> bytes:
    digest = hashlib.sha256(library).hexdigest()
    return json.dumps({"size": len(library), "sha256": digest}).encode()


def _load(path: Path) -> dict[str, Any]:
    try:
        library = ctypes.CDLL(str(path))
        return {name: getattr(library, name) for name in FUNCTIONS}
    except (OSError, AttributeError) as error:
        raise RuntimeError(f"{path} cannot be loaded: {error}") from error


# compiling


def ensure_built() -> Path:
    """Compile the kernel, unless the cache has a library that can be loaded.

    Returns:
      The path of the library.

    Raises:
      RuntimeError: no compiler was found (``CXX`` may name one), it failed, the cache
        cannot be written to, or the cache belongs to another user.
    """
    path = library_path()
    if fault(path) is None:
        return path
    try:
        trust.make_folder(path.parent)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            library = Path(folder) / path.name
            record = library.with_suffix(".json")
            _compile(library)
            record.write_bytes(_record(library.read_bytes()))
            for file in (library, record):
                file.chmod(0o600)  # the umask may let the group write
                _replace(file, path.with_suffix(file.suffix))
    except OSError as error:
        raise RuntimeError(f"{path} cannot be written: {error}") from error
    return path


def compiler() -> list[str]:
    """Return the command of the C++ compiler: ``CXX``, or the first one found.

    Raises:
      RuntimeError: there is none.
    """
    named = os.environ.get("CXX", "")
    try:
        command = shlex.split(named)
    except ValueError as error:
        raise RuntimeError(f"CXX={named} is not a shell command: {error}") from error
    command = command or list(filter(shutil.which, COMPILERS))[:1]
    if not command:
        raise RuntimeError(
            f"a C++20 compiler is needed; none of {', '.join(COMPILERS)} was found: "
            "install one (apt install g++), or name yours in CXX"
        )
    return command


def _compile(library: Path) -> None:
    native = ["-march=native"] if platform.machine() in ("x86_64", "AMD64") else []
    command = [*compiler(), *FLAGS, *native, "-shared", "-fPIC"]
    command += ["-isystem", jax.ffi.include_dir(), str(SOURCE), "-o", str(library)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise RuntimeError(f"{command[0]} cannot be run: {error}") from error
    if done.returncode:
        raise RuntimeError(
            f"{shlex.join(command)} failed with status {done.returncode}:\n"
            f"{done.stderr[:2000]}"
        )
    _load(library)  # fails here rather than in the first sample


def _replace(file: Path, target: Path) -> None:
    """Move a file to its place in one step. A folder there is kept under a new name."""
    if target.is_dir() and not target.is_symlink():
        target.rename(tempfile.mkdtemp(prefix=f"{target.name}.", dir=target.parent))
    file.replace(target)

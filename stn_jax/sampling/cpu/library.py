"""Load a compiled CPU kernel, if it agrees with its record.

Loading a truncated library would end the process. A library that was compiled for a
newer jaxlib than the installed one would be refused, and in some versions JAX could
then not start. So both are checked before.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax

from . import compiler

FUNCTIONS = (  # defined in the source
    "stn_jax_cpu_values",
    "stn_jax_cpu_cotangents",
    "stn_jax_cpu_warp_values",
    "stn_jax_cpu_warp_cotangents",
    "stn_jax_cpu_prefilter",
)


class Library(NamedTuple):
    """A library in memory."""

    path: Path
    sha256: str
    functions: dict[str, Any]
    """The ``FUNCTIONS`` by name."""


def loaded(path: Path, content: bytes, record: bytes) -> Library:
    """Load the library at ``path``, which holds ``content``.

    Raises:
      RuntimeError: it is not the library of the record, needs a newer jaxlib, or cannot
        be loaded.
    """
    sha256 = hashlib.sha256(content).hexdigest()
    try:
        of = json.loads(record)
        size, expected, needed = of["size"], of["sha256"], [*map(int, of["ffi_api"])]
    except (ValueError, KeyError, TypeError) as error:
        raise RuntimeError(f"the record beside {path} is damaged: {error!r}") from error
    if (len(content), sha256) != (size, expected):
        beside = path.with_suffix(".json")
        raise RuntimeError(f"the size or digest of {path} is not the one in {beside}")
    offered = compiler.interface(jax.ffi.include_dir())
    if offered < needed:
        raise RuntimeError(
            f"{path} needs version {_dotted(needed)} of XLA's foreign functions; the "
            f"installed jaxlib has {_dotted(offered)}"
        )
    return Library(path, sha256, functions(path))


def fault(load: Callable[[Path], Library], path: Path) -> str | None:
    """Return why the library cannot be loaded, or None if it can be."""
    try:
        load(path)
    except RuntimeError as error:
        return str(error)
    return None


def functions(path: Path) -> dict[str, Any]:
    """Load a library without checks; return its ``FUNCTIONS`` by name.

    Raises:
      RuntimeError: it cannot be loaded, or lacks one of them.
    """
    try:
        library = ctypes.CDLL(str(path))
        return {name: getattr(library, name) for name in FUNCTIONS}
    except (OSError, AttributeError) as error:
        raise RuntimeError(f"{path} cannot be loaded: {error}") from error


def _dotted(version: list[int]) -> str:
    return ".".join(map(str, version))

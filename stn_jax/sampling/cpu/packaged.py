"""The CPU kernel that comes with the package.

A library here is trusted like the package's Python files beside it: who can write one
can write the others. Its size and digest are checked against its record.
"""

from __future__ import annotations

import functools
import platform
from pathlib import Path

from . import compiler, library, variants


def packaged_path() -> Path | None:
    """Return the path of the fastest library that this CPU can run, None without one.

    A library of another source than the installed one has another name.
    """
    paths = [variant.library(_digest()) for variant in variants.usable()]
    return next(filter(Path.exists, paths), None)


def load_packaged(path: Path) -> library.Library:
    """Load a library of the package.

    Raises:
      RuntimeError: it is damaged or cannot be loaded.
    """
    try:
        content = path.read_bytes()
        record = path.with_suffix(".json").read_bytes()
    except OSError as error:
        raise RuntimeError(
            f"{error.filename} cannot be read: {error.strerror}"
        ) from error
    return library.loaded(path, content, record)


def absence() -> str:
    """Say why the package has no library for this CPU."""
    if not variants.variants():
        return f"none for {platform.system()} on {platform.machine()}"
    if any(variant.library(_digest()).exists() for variant in variants.variants()):
        return "none for this CPU"
    if any(variants.FOLDER.glob("kernel-*.so")):
        return "none of this source; `pip install -e .` compiles it"
    return "none: the package was built without a C++20 compiler"


@functools.cache
def _digest() -> str:
    return compiler.digest()

"""Compile the CPU kernel into the wheel, where a C++20 compiler is found.

``STN_JAX_BUILD=off`` leaves it out, and the wheel then serves every platform.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import shutil
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# the oldest supported one: newer ones accept what was compiled with its headers
JAXLIB = "0.7.2"
PYTHONS = ((3, 11), (3, 12), (3, 13), (3, 14))  # that jaxlib has wheels for


class Kernel(BuildHookInterface):
    """Adds a library for each instruction set to the wheel."""

    def dependencies(self) -> list[str]:
        """jaxlib, for its headers, if the kernel will be compiled."""
        return [] if self._obstacle() else [f"jaxlib=={JAXLIB}"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the libraries and name them to the builder."""
        if self.target_name != "wheel":
            return
        if reason := self._obstacle():
            return self._go_without(reason)
        try:
            include = headers()
            files = self._compile(include)
        except (RuntimeError, OSError) as error:
            return self._go_without(str(error).splitlines()[0])
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform_tag()}"
        if version != "editable":
            build_data["force_include"] |= {
                str(file): str(file.relative_to(self.root)) for file in files
            }

    def _obstacle(self) -> str | None:
        """Why no kernel can be compiled, None if nothing is known against it."""
        asked = os.environ.get("STN_JAX_BUILD") or "on"
        if asked not in ("on", "off"):
            raise ValueError(f"STN_JAX_BUILD must be 'on' or 'off'; got {asked!r}")
        if asked == "off":
            return "STN_JAX_BUILD=off"
        if not self._module("variants").variants():
            return f"no variant is known for {platform.system()} {platform.machine()}"
        if sys.version_info[:2] not in PYTHONS:
            return f"jaxlib {JAXLIB} has no wheel for Python {sys.version.split()[0]}"
        try:
            command = self._module("compiler").compiler()
        except RuntimeError as error:
            return str(error)
        return None if shutil.which(command[0]) else f"{command[0]} was not found"

    def _go_without(self, reason: str) -> None:
        self.app.display_warning(
            f"stn_jax is built without its compiled CPU kernel: {reason}"
        )

    def _compile(self, include: Path) -> list[Path]:
        """Compile what is missing; return the libraries and their records."""
        variants, compiler = self._module("variants"), self._module("compiler")
        paths = {v.library(compiler.digest()): v for v in variants.variants()}
        files = [path.with_suffix(end) for path in paths for end in (".so", ".json")]
        variants.FOLDER.mkdir(exist_ok=True)
        remove_others(variants.FOLDER, files)

        def make(path: Path) -> None:
            if is_whole(compiler, path, include):
                return
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as folder:
                made = Path(folder, path.name)
                compiler.compile_kernel(made, include, *paths[path].options)
                for file in (made.with_suffix(".json"), made):
                    file.replace(path.parent / file.name)

        with ThreadPoolExecutor() as pool:
            list(pool.map(make, paths))
        return files

    def _module(self, name: str) -> ModuleType:
        """A file of the package that needs the standard library only."""
        path = Path(self.root, "stn_jax", "sampling", "cpu", f"{name}.py")
        spec = importlib.util.spec_from_file_location(f"stn_jax_{name}", path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module


def headers() -> Path:
    """The folder of the installed jaxlib's headers.

    Raises:
      RuntimeError: no jaxlib is installed.
    """
    spec = importlib.util.find_spec("jaxlib")
    if spec is None or spec.origin is None:
        raise RuntimeError("jaxlib, whose headers are needed, is not installed")
    return Path(spec.origin).parent / "include"


def is_whole(compiler: ModuleType, library: Path, include: Path) -> bool:
    """Whether a library is there and agrees with its record."""
    with contextlib.suppress(OSError):
        record = library.with_suffix(".json").read_bytes()
        return compiler.record(library.read_bytes(), include) == record
    return False


def remove_others(folder: Path, files: list[Path]) -> None:
    """Remove the libraries of other sources, but not what is being written."""
    for path in folder.glob("kernel-*"):
        if path not in files:
            path.unlink()


def platform_tag() -> str:
    """The wheel's platform, as pip calls it."""
    name = sysconfig.get_platform().replace("universal2", platform.machine())
    return name.replace("-", "_").replace(".", "_")

"""The compiler's commands for the CPU kernel, and what is known of a library it made.

The build of the package runs this file without jax, so that it needs the standard
library only.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

FOLDER = Path(__file__).with_name("kernel")
SOURCE = FOLDER / "kernel.cpp"  # includes the other files
FLAGS = ("-std=c++20", "-O3", "-fno-math-errno", "-fno-trapping-math", "-fopenmp-simd")
COMPILERS = ("c++", "g++", "clang++")
HEADER = Path("xla", "ffi", "api", "c_api.h")  # in jaxlib's folder of headers


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


def compile_kernel(library: Path, include: str | Path, *machine: str) -> None:
    """Compile the kernel with jaxlib's headers, for a machine that options name.

    Its record is written beside it.

    Raises:
      RuntimeError: there is no compiler, or it fails.
    """
    command = [*compiler(), *FLAGS, *machine, "-shared", "-fPIC"]
    # the same library in whatever folder it is made: headers put their paths into it
    for name, folder in (("headers", include), ("source", FOLDER)):
        command.append(f"-ffile-prefix-map={folder}={name}")
    command += ["-isystem", str(include), str(SOURCE), "-o", str(library)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise RuntimeError(f"{command[0]} cannot be run: {error}") from error
    if done.returncode:
        raise RuntimeError(
            f"{shlex.join(command)} failed with status {done.returncode}:\n"
            f"{done.stderr[:2000]}"
        )
    library.with_suffix(".json").write_bytes(record(library.read_bytes(), include))


def digest(*others: str) -> str:
    """Return 16 digits that name the sources, the options and what else is given."""
    sources = [path.read_text() for path in sorted(FOLDER.iterdir())]
    text = "\n".join([*sources, *FLAGS, *others])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def record(library: bytes, include: str | Path) -> bytes:
    """Describe a library that was compiled with these headers.

    The record holds its size, its digest, and the version of XLA's interface.
    """
    return json.dumps(
        {
            "size": len(library),
            "sha256": hashlib.sha256(library).hexdigest(),
            "ffi_api": interface(include),
        }
    ).encode()


def interface(include: str | Path) -> list[int]:
    """Return the major and minor version of XLA's foreign functions, from the headers.

    Raises:
      RuntimeError: the headers cannot be read or do not say it.
    """
    path = Path(include) / HEADER
    try:
        text = path.read_text()
    except OSError as error:
        raise RuntimeError(f"{path} cannot be read: {error.strerror}") from error
    found = dict(re.findall(r"#define XLA_FFI_API_(MAJOR|MINOR) (\d+)", text))
    if len(found) != 2:
        raise RuntimeError(f"{path} does not define the version of XLA's interface")
    return [int(found["MAJOR"]), int(found["MINOR"])]

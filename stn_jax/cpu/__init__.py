"""A faster bilinear reader for CPUs, in C++, for whoever compiles it.

    python -m stn_jax.cpu

compiles ``reader.cpp`` for this machine, with the C++20 compiler that is there, into
the user's cache (``XDG_CACHE_HOME``, ``~/.cache``). From then on programs that JAX
compiles for a CPU call it for float32 and bfloat16 images with float32 coordinates,
unless the environment says ``STN_JAX_CPU=off``. XLA reads the pixels of a gather one by
one, while this reads vectors of points; the results agree but for rounding, and all
derivatives, maps and exports work as they do without, since plain JAX still defines
them. What is spread over several devices by the compiler, exported, or of another dtype
is read by plain JAX as ever.

Loading a library runs its code. So a library from the cache is loaded only if no other
user than root can have put it there; see ``_check_trust``.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import math
import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..checks import check_choice
from ..coordinates import center_and_half
from ..taps import Axis

SOURCE = Path(__file__).with_name("reader.cpp")
TARGETS = ("stn_jax_cpu_values", "stn_jax_cpu_cotangents")
RULES = ("zeros", "border", "reflection", "mirror", "wrap")  # numbered in the source
FLAGS = ("-std=c++20", "-O3", "-fno-math-errno", "-fno-trapping-math", "-fopenmp-simd")
COMPILERS = ("c++", "g++", "clang++")


def library_path() -> Path:
    """Where the compiled reader lies, or would: one for each source, jaxlib and CPU."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not cache.is_absolute():  # the XDG specification says to ignore such a path
        cache = Path.home() / ".cache"
    return cache / "stn_jax" / f"reader-{_key()}.so"


@functools.cache
def _key() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    features = [line for line in lines if line.startswith(("flags", "Features"))][:1]
    machine = platform.system(), platform.machine(), *platform.libc_ver(), *features
    text = "\n".join([SOURCE.read_text(), version("jaxlib"), *FLAGS, *machine])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class UntrustedError(RuntimeError):
    """Another user can have written the library, so it must not be loaded."""


def _check_trust(path: Path) -> None:
    """Check that only the effective user and root can have written a cached library.

    Its folder and the file must belong to one of the two, and group and others must not
    be able to write to either. Symbolic links are not followed, and the folders above
    are not checked.

    Raises:
      UntrustedError: the check fails, or this system does not report owners.
    """
    _check_owner(path.parent, stat.S_ISDIR)
    _check_owner(path, stat.S_ISREG)


def _check_owner(path: Path, is_kind: Callable[[int], bool]) -> None:
    if not hasattr(os, "geteuid"):
        raise UntrustedError("this system does not report who owns a file")
    found = path.lstat()
    if not is_kind(found.st_mode):
        kind = "folder" if is_kind is stat.S_ISDIR else "regular file"
        raise UntrustedError(f"{path} is not a {kind}")
    if found.st_uid not in (os.geteuid(), 0):
        raise UntrustedError(f"{path} belongs to another user")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UntrustedError(f"other users can write to {path}")


def build() -> Path:
    """Compile the reader, unless it lies there already.

    Returns:
      The path of the compiled library.

    Raises:
      RuntimeError: no compiler was found (``CXX`` may name one), it failed, or other
        users can write to the cache's folder.
    """
    path = library_path()
    if path.exists():
        _check_trust(path)
        return path
    compiler = os.environ.get("CXX") or next(filter(shutil.which, COMPILERS), None)
    if compiler is None:
        raise RuntimeError(
            f"a C++20 compiler is needed; none of {', '.join(COMPILERS)} was found: "
            "install one (apt install g++), or name yours in CXX"
        )
    native = ["-march=native"] if platform.machine() in ("x86_64", "AMD64") else []
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_owner(path.parent, stat.S_ISDIR)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        compiled = Path(folder) / path.name
        command = [*shlex.split(compiler), *FLAGS, *native, "-shared", "-fPIC"]
        command += ["-isystem", jax.ffi.include_dir(), str(SOURCE), "-o", str(compiled)]
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except OSError as error:
            raise RuntimeError(f"{compiler} cannot be run: {error}") from error
        if done.returncode:
            raise RuntimeError(
                f"{shlex.join(command)} failed with status {done.returncode}:\n"
                f"{done.stderr[:2000]}"
            )
        compiled.chmod(0o600)  # whatever the umask allows to others
        ctypes.CDLL(str(compiled))  # it can be loaded
        compiled.replace(path)
    return path


def is_on() -> bool:
    """Whether programs that are compiled now for a CPU call the reader.

    Raises:
      ValueError: ``STN_JAX_CPU`` is neither "on", its default, nor "off".
    """
    asked = os.environ.get("STN_JAX_CPU") or "on"
    check_choice("the environment's STN_JAX_CPU", asked, ("on", "off"))
    if asked == "off" or not (path := library_path()).exists():
        return False
    return _load(path)


@functools.cache
def _load(path: Path) -> bool:
    """Make the library's functions known to JAX, or warn why they are left out."""
    try:
        _check_trust(path)
    except UntrustedError as error:
        message = f"stn_jax does not load its compiled CPU kernel: {error}"
        warnings.warn(message, RuntimeWarning, stacklevel=2)
        return False
    library = ctypes.CDLL(str(path))
    for target in TARGETS:
        capsule = jax.ffi.pycapsule(getattr(library, target))
        jax.ffi.register_ffi_target(target, capsule, platform="cpu")
    return True


def takes(context: Any, method: str) -> bool:
    """Whether the reader can stand where a program for a CPU is being lowered, that
    reads an image, the first of its arrays, at points, the second.

    XLA cannot divide a call among devices, so there it takes what ``jax.shard_map``
    divides alone; a program that is exported has to run where no reader is.
    """
    image, points, *_ = context.avals_in
    module = context.module_context
    where, parameters = module.axis_context, module.lowering_parameters
    names = getattr(getattr(where, "mesh", None), "axis_names", None)
    is_divided = names is not None and set(names) == set(where.manual_axes)
    return (
        method == "bilinear"
        and (is_divided or getattr(where, "num_devices", None) == 1)
        and not parameters.for_export
        and image.dtype in (jnp.float32, jnp.bfloat16)
        and points.dtype == jnp.float32
        and 0 < math.prod(image.shape[1:-1]) < 2**29  # indices are int32
        and image.shape[-1] > 0
        and is_on()
    )


def values(
    image: jax.Array, points: jax.Array, *, axes: tuple[Axis, ...], **_: Any
) -> list[jax.Array]:
    """Images ``(P, *size, C)`` at points ``(P, M, n)``: ``[(P, M, C)]``."""
    shape = (*points.shape[:2], image.shape[-1])
    call = jax.ffi.ffi_call(TARGETS[0], _flat(shape, image.dtype))
    return [call(image, points, **_attributes(axes)).reshape(shape)]


def cotangents(
    image: jax.Array,
    points: jax.Array,
    out_bar: jax.Array,
    *,
    axes: tuple[Axis, ...],
    wants: tuple[bool, bool],
    **_: Any,
) -> list[jax.Array]:
    """The gradients of the images and of the points: those that are wanted."""
    wanted = [x for x, want in zip((image, points), wants, strict=True) if want]
    call = jax.ffi.ffi_call(TARGETS[1], [_flat(x.shape, x.dtype) for x in wanted])
    attributes = {"wants_image": wants[0], "wants_points": wants[1]}
    found = call(image, points, out_bar.ravel(), **attributes, **_attributes(axes))
    return [bar.reshape(x.shape) for bar, x in zip(found, wanted, strict=True)]


def _flat(shape: tuple[int, ...], dtype: jnp.dtype) -> jax.ShapeDtypeStruct:
    """What has one layout alone: of one channel XLA would copy what it takes or gets
    in more dimensions.
    """
    return jax.ShapeDtypeStruct((math.prod(shape),), dtype)


def _attributes(axes: tuple[Axis, ...]) -> dict[str, np.ndarray]:
    """What the reader must know of the axes: pixel = half * coordinate + center."""
    rules, halves, centers = [], [], []
    for axis in axes:
        is_mirror = axis.mode == "reflection" and axis.align_corners
        rule = {"constant": "zeros"}.get(axis.mode, axis.mode)  # the fill comes later
        rules.append(RULES.index("mirror" if is_mirror else rule))
        center, half = center_and_half(axis.n, axis.align_corners)
        is_pixel = axis.coordinates == "pixel"
        halves.append(1.0 if is_pixel else half)
        centers.append(0.0 if is_pixel else center)
    return {
        "rules": np.array(rules, np.int32),
        "halves": np.array(halves, np.float32),
        "centers": np.array(centers, np.float32),
    }

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
import subprocess
import tempfile
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
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "stn_jax" / f"reader-{_key()}.so"


@functools.cache
def _key() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    features = [line for line in lines if line.startswith(("flags", "Features"))][:1]
    machine = platform.system(), platform.machine(), *platform.libc_ver(), *features
    text = "\n".join([SOURCE.read_text(), version("jaxlib"), *FLAGS, *machine])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def build() -> Path:
    """Compile the reader, unless it lies there already.

    Returns:
      The path of the compiled library.

    Raises:
      RuntimeError: no compiler was found (``CXX`` may name one), or it failed.
    """
    path = library_path()
    if path.exists():
        return path
    compiler = os.environ.get("CXX") or next(filter(shutil.which, COMPILERS), None)
    if compiler is None:
        raise RuntimeError(
            f"a C++20 compiler is needed; none of {', '.join(COMPILERS)} was found: "
            "install one (apt install g++), or name yours in CXX"
        )
    native = ["-march=native"] if platform.machine() in ("x86_64", "AMD64") else []
    path.parent.mkdir(parents=True, exist_ok=True)
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
    _load(path)
    return True


@functools.cache
def _load(path: Path) -> None:
    """Make the library's functions known to JAX."""
    library = ctypes.CDLL(str(path))
    for target in TARGETS:
        capsule = jax.ffi.pycapsule(getattr(library, target))
        jax.ffi.register_ffi_target(target, capsule, platform="cpu")


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

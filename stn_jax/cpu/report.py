"""Report on the compiled CPU kernel: which one is used, and why."""

import os
import shlex
import shutil
import warnings
from collections.abc import Callable

from ..sampling.cpu import build, compiler, ffi, library, packaged, variants

BUILD = "python -m stn_jax.cpu build"
PLAIN = "plain JAX"


def used() -> str:
    """Name what samples in programs that are compiled now for a CPU.

    Returns:
      "plain JAX", or "kernel", its name ("native" or an instruction set) and the first
      digits of its library's SHA-256.

    Raises:
      ValueError: ``STN_JAX_CPU`` is neither "on", its default, nor "off".

    >>> used() == "plain JAX" or used().startswith("kernel ")
    True
    """
    found = ffi.in_use()
    if found is None:
        return PLAIN
    names = [v.name for v in variants.variants() if found.path.stem.endswith(v.name)]
    return f"kernel {names[0] if names else 'native'} {found.sha256[:16]}"


def report() -> list[str]:
    """Return one line for each fact about the kernel."""
    facts = {
        "used": _used,
        "STN_JAX_CPU": _switch,
        "own build": _own,
        "packaged": _packaged,
        "compiler": _compiler,
    }
    return [f"{name + ':':<13}{_answer(fact)}" for name, fact in facts.items()]


def _answer(fact: Callable[[], str]) -> str:
    try:
        return fact()
    except (RuntimeError, ValueError) as error:
        return str(error)


def _used() -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the lines below say the same
        return used()


def _switch() -> str:
    if ffi.is_allowed():
        return "on: a valid kernel is used"
    return "off: no kernel is used"


def _own() -> str:
    path = build.own_path()
    if not os.path.lexists(path):
        return f"none; `{BUILD}` builds one for just this CPU"
    if reason := library.fault(build.load_own, path):
        return f"not used: {reason}; `{BUILD}` builds it anew"
    return f"valid: {path}"


def _packaged() -> str:
    path = packaged.packaged_path()
    if path is None:
        return packaged.absence()
    if reason := library.fault(packaged.load_packaged, path):
        return f"not used: {reason}; `pip install --force-reinstall` mends it"
    return f"valid: {path}"


def _compiler() -> str:
    command = compiler.compiler()
    found = shutil.which(command[0])
    return shlex.join(command) if found else f"{shlex.join(command)} (not found)"

"""Report on the compiled CPU kernel of stn_jax, or build it.

Without a command: report where the kernel is, whether it is used, and which compiler
would build it.
"""

import argparse
import os
import shlex
import shutil
from collections.abc import Callable

from ..sampling.cpu import build, ffi

BUILD = "python -m stn_jax.cpu build"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m stn_jax.cpu", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar="[build]")
    commands.add_parser(
        "build",
        help="compile the kernel into the user's cache, unless a valid one is there",
        description="Compile the kernel into the user's cache (XDG_CACHE_HOME, else "
        "~/.cache), unless a valid one is there. CXX names the C++20 compiler.",
    )
    if parser.parse_args().command == "build":
        try:
            print(f"the CPU kernel is ready: {build.ensure_built()}")
        except RuntimeError as error:
            raise SystemExit(f"stn_jax.cpu: {error}") from None
    else:
        print("\n".join(report()))


def report() -> list[str]:
    """Return one line for each fact about the kernel."""
    facts = {
        "library": lambda: str(build.library_path()),
        "state": _state,
        "STN_JAX_CPU": _switch,
        "compiler": _compiler,
    }
    return [f"{name + ':':<13}{_answer(fact)}" for name, fact in facts.items()]


def _answer(fact: Callable[[], str]) -> str:
    try:
        return fact()
    except (RuntimeError, ValueError) as error:
        return str(error)


def _state() -> str:
    path = build.library_path()
    if not os.path.lexists(path):
        return f"not built; `{BUILD}` builds it"
    if reason := build.fault(path):
        return f"not used: {reason}; `{BUILD}` builds it anew"
    return "valid"


def _switch() -> str:
    if ffi.is_allowed():
        return "on: a valid kernel is used"
    return "off: no kernel is used"


def _compiler() -> str:
    command = build.compiler()
    found = shutil.which(command[0])
    return shlex.join(command) if found else f"{shlex.join(command)} (not found)"


if __name__ == "__main__":
    main()

"""Report on the compiled CPU kernel of stn_jax, or build it.

Without a command: report what samples on a CPU and why, which kernels were found, and
which compiler would build one.
"""

import argparse

from ..sampling.cpu import build
from .report import report


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m stn_jax.cpu", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar="[build]")
    commands.add_parser(
        "build",
        help="compile the kernel for this CPU into the user's cache, unless a valid "
        "one is there",
        description="Compile the kernel for this CPU into the user's cache "
        "(XDG_CACHE_HOME, else ~/.cache), unless a valid one is there. CXX names the "
        "C++20 compiler.",
    )
    if parser.parse_args().command == "build":
        try:
            print(f"the CPU kernel is ready: {build.ensure_built()}")
        except RuntimeError as error:
            raise SystemExit(f"stn_jax.cpu: {error}") from None
    else:
        print("\n".join(report()))


if __name__ == "__main__":
    main()

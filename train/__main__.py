"""The command line: ``python -m train run``, ``list`` and ``compare``."""

from __future__ import annotations

import sys
from pathlib import Path

import tyro
from rich.console import Console

from . import compare, experiment
from .compare import ResultsError
from .configs import CONFIGS, ConfigError
from .experiment import OutputError
from .idx import DataError

USAGE = """\
usage: python -m train list                     the configurations
       python -m train run NAME [OPTION ...]    train, evaluate, draw
       python -m train run NAME --help          the options
       python -m train compare PATH [PATH ...]  a table over runs, as Markdown"""


def main(arguments: list[str]) -> int:
    """Carry out one command; returns the exit status."""
    try:
        match arguments:
            case ["list"]:
                for name, (description, _) in CONFIGS.items():
                    print(f"{name:18} {description}")
            case ["run", *options]:
                config = tyro.extras.overridable_config_cli(
                    CONFIGS,
                    args=options,
                    prog="python -m train run",
                    config=(tyro.conf.FlagCreatePairsOff,),
                )
                experiment.run(options[0], config, Console())
            case ["compare", first, *more]:
                print(compare.table([Path(path) for path in (first, *more)]))
            case _:
                print(USAGE, file=sys.stderr)
                return 0 if set(arguments) & {"-h", "--help"} else 2
    except (ConfigError, DataError, OutputError, ResultsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

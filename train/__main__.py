"""The command line: ``python -m train`` and what it can do."""

from __future__ import annotations

import difflib
import os
import sys
from functools import partial
from pathlib import Path

import tyro
from rich.console import Console

from . import colocalization, compare, experiment, report, table
from .configs import CONFIGS, Colocalization, Config, ConfigError, scheduled
from .folder import OutputError
from .idx import DataError
from .results import ResultsError

USAGE = """\
usage: python -m train list                     the configurations
       python -m train run NAME [OPTION ...]    train, evaluate, draw
       python -m train run NAME --help          the options
       python -m train table --out DIR [OPTION ...]
                                                models on tasks, under several seeds
       python -m train report DIR [--animate]   what a table holds, as Markdown
       python -m train compare PATH [PATH ...]  a table over runs, as Markdown"""


def main(arguments: list[str]) -> int:
    """Carry out one command; returns the exit status."""
    try:
        match arguments:
            case ["list"]:
                for name, (description, _) in CONFIGS.items():
                    print(f"{name:26} {description}", flush=True)
            case ["run", name, *options] if not name.startswith("-"):
                _run(name, options)
            case ["table", *options]:
                asked = tyro.cli(
                    table.Table,
                    args=options,
                    prog="python -m train table",
                    config=(tyro.conf.FlagCreatePairsOff,),
                )
                print(report.report(table.train(asked, Console())))
            case ["report", path, *flags] if flags in ([], ["--animate"]):
                print(report.report(Path(path), animate=bool(flags)))
            case ["compare", first, *more]:
                print(compare.table([Path(path) for path in (first, *more)]))
            case _:
                print(USAGE, file=sys.stderr)
                return 0 if set(arguments) & {"-h", "--help"} else 2
    except (ConfigError, DataError, OutputError, ResultsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever reads has seen enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0


def _run(name: str, options: list[str]) -> None:
    """The named configuration with these options.

    They are read twice, as the schedule among them sets the defaults of others.
    """
    if name not in CONFIGS:
        close = difflib.get_close_matches(name, CONFIGS) or ["python -m train list"]
        raise ConfigError(f"there is no configuration {name!r}: try {', '.join(close)}")
    default = CONFIGS[name][1]
    read = partial(
        tyro.cli,
        args=options,
        prog=f"python -m train run {name}",
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    if isinstance(default, Colocalization):
        asked = read(Colocalization, default=default)
        colocalization.run(name, asked, Console())
        return
    schedule = read(Config, default=default).schedule
    if schedule != default.schedule:
        default = scheduled(default, schedule)
    experiment.run(name, read(Config, default=default), Console())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

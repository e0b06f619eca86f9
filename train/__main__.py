"""The command line: ``python -m train``."""

from __future__ import annotations

import difflib
import os
import shlex
import sys
from pathlib import Path
from typing import Any, TypeVar

import tyro
from rich.console import Console

from .colocalization import run_colocalization
from .configs import CONFIGS, Colocalization, Config, Training, scheduled
from .errors import (
    ConfigError,
    DataError,
    Diverged,
    OutputError,
    ResultsError,
    Stopped,
)
from .report import write_report
from .run import run_experiment
from .sweep import Sweep, run_sweep
from .tables import run_table

USAGE = """\
usage: python -m train COMMAND ...

commands:
  list                        list the named configurations
  run NAME [OPTION ...]       train and evaluate the models of a configuration
  table --out DIR [OPTION ...]
                              train models on tasks under several seeds, and report
  report DIR [--animate]      write the report on such a table again
  compare PATH [PATH ...]     print a table over runs, as Markdown

options: python -m train run NAME --help, python -m train table --help"""

T = TypeVar("T")


def main(arguments: list[str]) -> int:
    """Carry out one command; return the exit status."""
    try:
        match arguments:
            case ["list"]:
                width = max(map(len, CONFIGS))
                for name, (description, _) in CONFIGS.items():
                    print(f"{name:{width}} {description}", flush=True)
            case ["run", name, *options] if not name.startswith("-"):
                _run(name, options)
            case ["table", *options]:
                print(write_report(run_sweep(_sweep(options), Console())))
            case ["report", path, *flags] if flags in ([], ["--animate"]):
                print(write_report(Path(path), animate=bool(flags)))
            case ["compare", first, *more]:
                print(run_table([Path(path) for path in (first, *more)]))
            case _:
                print(USAGE, file=sys.stderr)
                return 0 if set(arguments) & {"-h", "--help"} else 2
    except (ConfigError, DataError, Diverged, OutputError, ResultsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the receiver has closed the pipe, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Stopped as stopped:
        print(_how_to_go_on(stopped, arguments), file=sys.stderr)
        return 128 + stopped.signal
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0


def _how_to_go_on(stopped: Stopped, arguments: list[str]) -> str:
    """What a user does after a training was stopped."""
    if stopped.step == 0:
        return "stopped before the first state was saved"
    if arguments[0] == "run":
        arguments = [word for word in arguments if word != "--overwrite"]
        arguments += [] if "--resume" in arguments else ["--resume"]
    command = shlex.join(["python", "-m", "train", *arguments])
    return f"{stopped}; the state is saved. Continue with: {command}"


def _run(name: str, options: list[str]) -> None:
    """Run the named configuration with these options."""
    if name not in CONFIGS:
        close = difflib.get_close_matches(name, CONFIGS) or ["python -m train list"]
        raise ConfigError(f"there is no configuration {name!r}: try {', '.join(close)}")
    default = CONFIGS[name][1]
    command = f"run {name}"
    if isinstance(default, Colocalization):
        config = _parse(Colocalization, default, options, command)
        run_colocalization(name, config, Console())
        return
    # parsed twice, because the schedule sets the defaults of other options
    schedule = _parse(Config, default, options, command).schedule
    if schedule != default.schedule:
        default = scheduled(default, schedule)
    run_experiment(name, _parse(Config, default, options, command), Console())


def _sweep(options: list[str]) -> Sweep:
    default: Any = tyro.MISSING
    schedule = _parse(Sweep, Sweep(default), options, "table").training.schedule
    default = Sweep(default, training=scheduled(Training(), schedule))
    return _parse(Sweep, default, options, "table")


def _parse(kind: type[T], default: T, options: list[str], command: str) -> T:
    return tyro.cli(
        kind,
        default=default,
        args=options,
        prog=f"python -m train {command}",
        config=(tyro.conf.FlagCreatePairsOff,),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

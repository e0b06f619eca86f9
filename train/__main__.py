"""The command line: ``python -m train``.

Each command imports its own files, so that a command starts without the others' and an
exported model runs without the models.
"""

from __future__ import annotations

import difflib
import os
import shlex
import sys
import traceback
from pathlib import Path
from typing import Any, TypeVar, cast

import tyro

from .errors import (
    ConfigError,
    DataError,
    Diverged,
    Lost,
    OutOfMemory,
    OutputError,
    ResultsError,
    Stopped,
)

USAGE = """\
usage: python -m train COMMAND ...

Train spatial transformer networks, and use the trained models.

train:
  list                       list the named configurations
  run NAME [OPTION ...]      train and evaluate the models of a configuration
  table --out DIR [OPTION ...]
                             train models on tasks under several seeds, and report

use a trained model:
  predict MODEL IMAGES ...   classify images
  export MODEL               write the model as a program that jax alone runs
  evaluate MODEL             measure errors, class by class

inspect:
  summary NAME [OPTION ...]  print layers, parameters, FLOPs and memory before a run
  compare PATH [PATH ...]    print a table over runs, as Markdown
  report DIR [--animate]     write the report on a table of trainings again

examples:
  python -m train run demo
  python -m train run rts-st_cnn-affine --data-dir mnist/ --steps 2000
  python -m train predict runs/demo/models/st_cnn-affine photo.png --resize
  python -m train evaluate runs/demo/models/st_cnn-affine --figure confusion.png
  python -m train summary rts --batch-size 64

All options of a command: python -m train COMMAND --help; for run and summary,
python -m train run NAME --help. NAME is one of python -m train list. MODEL is the
folder runs/NAME/models/MODEL that a run leaves, or a file in it."""

T = TypeVar("T")


def main(arguments: list[str]) -> int:
    """Carry out one command; return the exit status."""
    try:
        return _command(arguments)
    except (ConfigError, DataError, Diverged, ResultsError) as error:
        print(f"error: {_process()}{error}", file=sys.stderr)
        return 1
    except (Lost, OutOfMemory, OutputError) as error:
        print(f"error: {_process()}{error}", file=sys.stderr)
        return _end(1)
    except BrokenPipeError:  # the receiver has closed the pipe, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Stopped as stopped:
        print(_how_to_go_on(stopped, arguments), file=sys.stderr)
        return 128 + stopped.signal
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return _end(130)
    except Exception:
        if not _process():
            raise
        traceback.print_exc()
        return _end(1)


def _process() -> str:
    """This process, if a training has several; empty otherwise."""
    module = sys.modules.get("train.processes")
    return module.name() if module else ""


def _end(status: int) -> int:
    """The exit status. Of several processes, this one ends without the others."""
    if module := sys.modules.get("train.processes"):
        module.end(status)
    return status


def _command(arguments: list[str]) -> int:
    match arguments:
        case ["list"]:
            _list()
        case ["run", name, *options] if not name.startswith("-"):
            _run(name, options)
        case ["table", *options]:
            _train_table(options)
        case ["predict", *options]:
            from .use.predict import Predict, run_prediction

            return int(run_prediction(_parse(Predict, options, "predict")) > 0)
        case ["export", *options]:
            from .use.exporting import Export, run_export

            print(run_export(_parse(Export, options, "export")), flush=True)
        case ["evaluate", *options]:
            from .use.evaluation import Evaluate, run_evaluation

            print(run_evaluation(_parse(Evaluate, options, "evaluate")), flush=True)
        case ["summary", name, *options] if not name.startswith("-"):
            _summary(name, options)
        case ["compare", first, *more]:
            from .tables import run_table

            print(run_table([Path(path) for path in (first, *more)]), flush=True)
        case ["report", path, *flags] if flags in ([], ["--animate"]):
            from .report import write_report

            print(write_report(Path(path), animate=bool(flags)), flush=True)
        case _:
            asked = bool(set(arguments) & {"-h", "--help"})
            print(USAGE, file=sys.stdout if asked else sys.stderr, flush=True)
            return 0 if asked else 2
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


def _list() -> None:
    from .experiments import CONFIGS

    width = max(map(len, CONFIGS))
    for name, (description, _) in CONFIGS.items():
        print(f"{name:{width}} {description}", flush=True)


def _run(name: str, options: list[str]) -> None:
    """Run the named configuration with these options."""
    from rich.console import Console

    from .configs import Colocalization

    config = _configuration("run", name, options)
    if isinstance(config, Colocalization):
        from .colocalization import run_colocalization

        run_colocalization(name, config, Console())
    else:
        from . import processes
        from .run import run_experiment

        processes.join(config)
        run_experiment(name, config, Console(quiet=not processes.is_first()))


def _summary(name: str, options: list[str]) -> None:
    """Print a summary of the named configuration with these options of run."""
    from .configs import Colocalization
    from .use.summary import summaries

    config = _configuration("summary", name, options)
    if isinstance(config, Colocalization):
        raise ConfigError("summary describes classifiers; colocalization has none")
    for text in summaries(config):
        print(text, flush=True)


def _configuration(command: str, name: str, options: list[str]) -> Any:
    """The named configuration with these options: Config or Colocalization."""
    from .configs import Colocalization, Config, scheduled
    from .experiments import CONFIGS

    if name not in CONFIGS:
        close = difflib.get_close_matches(name, CONFIGS) or ["python -m train list"]
        raise ConfigError(f"there is no configuration {name!r}: try {', '.join(close)}")
    default, command = CONFIGS[name][1], f"{command} {name}"
    if isinstance(default, Colocalization):
        return _parse(Colocalization, options, command, default)
    # parsed twice, because the schedule sets the defaults of other options
    schedule = _parse(Config, options, command, default).schedule
    if schedule != default.schedule:
        default = scheduled(default, schedule)
    return _parse(Config, options, command, default)


def _train_table(options: list[str]) -> None:
    """Train a table of models with these options, and print the report."""
    from rich.console import Console

    from . import processes
    from .configs import Training, scheduled
    from .report import write_report
    from .sweep import Sweep, run_sweep

    default: Any = tyro.MISSING
    schedule = _parse(Sweep, options, "table", Sweep(default)).training.schedule
    default = Sweep(default, training=scheduled(Training(), schedule))
    sweep = _parse(Sweep, options, "table", default)
    processes.join(sweep.training)
    out = run_sweep(sweep, Console(quiet=not processes.is_first()))
    if processes.is_first():
        print(write_report(out), flush=True)


def _parse(
    kind: type[T], options: list[str], command: str, default: T | None = None
) -> T:
    found = tyro.cli(
        kind,
        default=default,
        args=options,
        prog=f"python -m train {command}",
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    return cast(T, found)  # None stands for no default


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

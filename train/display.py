"""What a training prints: a progress bar on a terminal, else a line per evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from .trained import Row, Trained

Show = Callable[[Row], None]
EVALUATIONS = {"validation_error": "validation", "test_error": "test"}


@contextmanager
def progress(console: Console, name: str, steps: int) -> Iterator[Show]:
    """A context for a training; yields the function that shows a row of metrics."""
    if not console.is_terminal:
        yield _lines(console, name, steps)
        return
    columns = (
        TextColumn("{task.description:13}"),
        BarColumn(bar_width=10),
        TextColumn("{task.fields[status]}"),
    )
    with Progress(*columns, console=console) as bar:
        yield _bar(bar, name, steps)


def _bar(bar: Progress, name: str, steps: int) -> Show:
    task = bar.add_task(name, total=steps, status="compiling")
    pace, evaluated = Pace(steps), {}

    def show(row: Row) -> None:
        evaluated.update({k: v for k, v in row.items() if k in EVALUATIONS})
        text = status(evaluated | row) + pace.left(row)
        bar.update(task, completed=row["step"], status=text)

    return show


def _lines(console: Console, name: str, steps: int) -> Show:
    pace = Pace(steps)

    def show(row: Row) -> None:
        left = pace.left(row)
        if any(key in row for key in EVALUATIONS):
            at = f"step {row['step']:,} of {steps:,}"
            console.print(f"{name}: {at}: {status(row)}{left}", soft_wrap=True)

    return show


class Pace:
    """Estimates the time left, without the first row, which waits for compilation."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.first: Row | None = None

    def left(self, row: Row) -> str:
        """The time left after a row, in words; empty if it is not known."""
        self.first = self.first or row
        done = row["step"] - self.first["step"]
        if not done or row["step"] >= self.steps:
            return ""
        seconds = (row["seconds"] - self.first["seconds"]) / done
        return f", {_duration(seconds * (self.steps - row['step']))} left"


def status(row: Row) -> str:
    """A row of metrics in words."""
    held_out = (f" {n} {row[key]:.2f}%" for key, n in EVALUATIONS.items() if key in row)
    skipped = f" skipped {row['skipped']}" if row.get("skipped") else ""
    return (
        f"loss {row['loss']:.3f} error {row['error']:.1f}%{''.join(held_out)}{skipped} "
        f"{row['images_per_second']:,.0f} images/s"
    )


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{seconds:.0f} s"


def summary(trained: Sequence[Trained]) -> Table:
    """The models' errors."""
    table = Table("model")
    has_validation = any(run.best for run in trained)
    columns = ("validation error", "step") if has_validation else ()
    for column in ("parameters", *columns, "test error", "seconds"):
        table.add_column(column, justify="right")
    for run in trained:
        validation = [f"{b.validation_error:.2f}%" for b in run.best[:1]]
        validation += [f"{b.step:,}" for b in run.best[:1]]
        table.add_row(
            run.spec.label,
            f"{run.parameters:,}",
            *validation,
            f"{run.test_error:.2f}%",
            f"{run.seconds:.0f}",
        )
    return table


def remarks(trained: Trained) -> list[str]:
    """What the user should know about a training, and what helps."""
    found = []
    if trained.collapse:
        found.append(
            f"[bold red]The transformer of {trained.spec.label} has collapsed:[/] "
            f"{trained.collapse}. Try a lower --localization-learning-rate, --clip 1, "
            "--outside-penalty 1 or --bound 1."
        )
    if trained.is_memorized:
        validation = trained.chosen.validation_error
        error, what = (
            (trained.test_error, "test")
            if validation is None
            else (validation, "validation")
        )
        found.append(
            f"[bold]{trained.spec.label} has memorized its training images:[/] their "
            f"error is 0, that of the {what} images {error:.2f}%. Try --elastic 1, "
            "more images, or fewer --parameters."
        )
    if skipped := sum(row.get("skipped", 0) for row in trained.rows):
        found.append(
            f"[bold]{trained.spec.label}: {skipped:,} steps were skipped,[/] because "
            "a loss or a gradient was NaN or infinite."
        )
    return found

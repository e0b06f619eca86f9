"""What a training prints."""

import io

import pytest
from rich.console import Console

from train import display


def rows(steps, seconds_per_step=0.1, compilation=60.0, every=100):
    """Rows of a training of even speed, whose first one waits for compilation."""
    for step in range(50, steps + 1, 50):
        row = {"step": step, "loss": 1.25, "error": 12.3, "images_per_second": 1234.0}
        row["seconds"] = compilation + seconds_per_step * step
        yield row | ({"validation_error": 4.5} if step % every == 0 else {})


def printed(steps, **options):
    out = io.StringIO()
    with display.progress(Console(file=out, width=200), "CNN", steps) as show:
        for row in rows(steps, **options):
            show(row)
    return out.getvalue().splitlines()


def test_a_file_gets_one_line_for_each_evaluation():
    lines = printed(300)
    assert [line.split(": loss")[0] for line in lines] == [
        f"CNN: step {step} of 300" for step in (100, 200, 300)
    ]
    expected = "loss 1.250 error 12.3% validation 4.50% 1,234 images/s"
    assert all(expected in line for line in lines)


def test_the_time_left_does_not_count_compilation():
    """0.1 s for each of the steps that are left, however long compilation took."""
    first, *_, last = printed(36_000 + 100, compilation=1000.0)
    assert first.endswith(", 1 h 0 min left")
    assert "left" not in last
    assert printed(400, seconds_per_step=1.0)[0].endswith(", 5 min left")
    assert printed(200)[0].endswith(", 10 s left")


@pytest.mark.parametrize(("seconds", "words"), [(0.4, "0 s"), (89, "1 min")])
def test_durations_in_words(seconds, words):
    pace = display.Pace(101)
    pace.left({"step": 1, "seconds": 0.0})
    left = pace.left({"step": 51, "seconds": float(seconds)})
    assert left == f", {words} left"


def test_a_terminal_gets_a_bar():
    out = io.StringIO()
    console = Console(file=out, width=120, force_terminal=True)
    with display.progress(console, "CNN", 100) as show:
        for row in rows(100):
            show(row)
    assert "validation 4.50%" in out.getvalue()
    assert "\x1b[" in out.getvalue()

"""The rows that are measured on a GPU, and small ones that try them on a CPU."""

from __future__ import annotations

import math
from functools import partial

from .budget import Measure
from .cases import CASES, LARGE, WHATS, Case
from .rows import Row, measure, measure_deterministic
from .sampling import Grid, Sampling, grids
from .training import Module, Step
from .training import plan as networks

TINY = Case(2, (8, 7), 3, (5, 6))
SUMS = ("both", "parameters", "training")  # gradients that are sums


def rows(is_tiny: bool) -> list[Row]:
    """The sampler, the module and training steps, and the grids."""
    cases = (TINY,) if is_tiny else (*CASES, *LARGE)
    samplings = [Sampling(case, what) for case in cases for what in WHATS]
    if is_tiny:
        networks_ = Module(2, 28, "parameters"), Step("tutorial", 2, 28, "plain")
        return [*samplings, *networks_, Grid(TINY)]
    return [*samplings, *networks(), *grids()]


def plan(
    rows: list[Row], peers: tuple[str, ...], *, rounds: int, seconds: float
) -> dict[str, Measure]:
    """How to measure each row, in order: the ordinary programs, then the deterministic.

    A deterministic scatter may be a loop over the points, which is slow. So the
    gradients of images come last, and those of the fewest points first.
    """
    how = {"rounds": rounds, "seconds": seconds}
    fixed = sorted((row for row in rows if row.labels["what"] in SUMS), key=_additions)
    return {
        **{str(row): partial(measure, row, peers, **how) for row in rows},
        **{
            f"{row} deterministic": partial(measure_deterministic, row, **how)
            for row in fixed
        },
    }


def _additions(row: Row) -> int:
    """How often a gradient is added to a pixel."""
    if not isinstance(row, Sampling):
        return 0
    case = row.case
    return case.batch * math.prod(case.out_size) * 2**case.ndim

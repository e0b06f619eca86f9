"""What several windows cost: ``python -m benchmarks.windows``.

One localization network predicts n windows of half the image, as in the paper's section
4.3. Their time and memory are compared with those of one window.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import tyro
from flax import nnx

from stn_jax.nnx import ConvLocalization, ParallelSpatialTransformers
from stn_jax.transforms import Attention, tiles

from . import malloc, on_jax, report
from .timing import in_turn, queued_calls, spread

COUNTS = {1: (1, 1), 2: (1, 2), 4: (2, 2)}
BATCH, INPUT, OUTPUT = 8, 448, 224  # the paper's resolutions


@dataclass(frozen=True)
class Options:
    """Time one, two and four windows of the same images in turn."""

    rounds: int = 20
    """Timed calls of each program, at most."""
    out: Path = Path("runs/windows.json")
    """File for the measurements, JSON."""


def main(options: Options) -> None:
    """Measure, print and write the rows."""
    malloc.configure("kept")
    rows = []
    for part in ("transformer", "sampling"):
        for what in ("forward", "both"):
            programs = {str(n): _program(n, part, what) for n in COUNTS}
            times = in_turn(
                programs, rounds=options.rounds, seconds=10, calls=queued_calls()
            )
            for name, program in programs.items():
                ratio = spread(times[name] / times["1"])
                rows.append(
                    {
                        "part": part,
                        "what": what,
                        "windows": int(name),
                        "milliseconds": round(1e3 * spread(times[name]).median, 3),
                        "of_one": [round(x, 3) for x in ratio],
                        "temporary_bytes": program.temporary_bytes,
                    }
                )
                print(rows[-1])
    command = " ".join(["python -m benchmarks.windows", *sys.argv[1:]])
    document = report.document(rows, 0, command)
    del document["copy_bytes_per_second"]
    report.write(options.out, report.to_json(document))


def _program(count: int, part: str, what: str) -> on_jax.Program:
    """A program of n windows: the whole transformer, or its sampling alone.

    "both" adds the gradients of the images and of the transformer's parameters or, for
    the sampling, of the windows' parameters.
    """
    shape = (INPUT, INPUT, 3)
    family = Attention(scale=0.5)
    rngs = nnx.Rngs(0)
    # the network sees the image at an eighth of its resolution
    net = ConvLocalization(shape, downsample=8, rngs=rngs)
    start = tiles(family, COUNTS[count]) + 0.01  # between the pixels
    st = ParallelSpatialTransformers(
        net, family, start, (OUTPUT, OUTPUT), features=net.features, rngs=rngs
    )
    graphdef, state = nnx.split(st)
    images = jax.random.uniform(jax.random.key(0), (BATCH, *shape))
    params = jnp.broadcast_to(start, (BATCH, *start.shape))

    def transform(state: Any, images: jax.Array) -> jax.Array:
        return nnx.merge(graphdef, state)(images)

    def sample(params: jax.Array, images: jax.Array) -> jax.Array:
        return st.warp(images, params)

    function, first = (transform, state) if part == "transformer" else (sample, params)

    def with_gradients(first: Any, images: jax.Array) -> Any:
        out, pull = jax.vjp(function, first, images)
        return out, pull(jnp.ones_like(out))

    run = function if what == "forward" else with_gradients
    return on_jax.Program(run, first, images, calls=queued_calls())


if __name__ == "__main__":
    main(tyro.cli(Options))

"""What several windows cost: ``python -m benchmarks.windows``.

One localization network predicts n windows of half the image, as in the paper's section
4.3. Their time and memory are compared with those of one window.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import tyro
from flax import nnx

from stn_jax.nnx import ConvLocalization, ParallelSpatialTransformers
from stn_jax.transforms import Attention, tiles

from . import on_jax, ratios
from .timing import queued_calls

TILES = {"one": (1, 1), "two": (1, 2), "four": (2, 2)}
BATCH, INPUT, OUTPUT = 8, 448, 224  # the paper's resolutions


@dataclass(frozen=True)
class Options(ratios.Options):
    """Time one, two and four windows of the same images in turn."""

    out: Path = Path("runs/windows.json")
    """File for the measurements, JSON."""


def main(options: Options) -> None:
    """Measure, print and write the rows."""
    ratios.run("benchmarks.windows", groups(), options, of="one", seconds=10)


def groups() -> Iterator[ratios.Group]:
    """One, two and four windows, with the network and without, and both ways."""
    for part in ("transformer", "sampling"):
        for what in ("forward", "both"):
            programs = {name: _program(of, part, what) for name, of in TILES.items()}
            labels = {
                name: {
                    "part": part,
                    "what": what,
                    "windows": math.prod(TILES[name]),
                    "temporary_bytes": program.temporary_bytes,
                }
                for name, program in programs.items()
            }
            yield ratios.Group(programs, labels)


def _program(tiling: tuple[int, int], part: str, what: str) -> on_jax.Program:
    """A program of some windows: the whole transformer, or its sampling alone.

    "both" adds the gradients of the images and of the transformer's parameters or, for
    the sampling, of the windows' parameters.
    """
    shape = (INPUT, INPUT, 3)
    family = Attention(scale=0.5)
    rngs = nnx.Rngs(0)
    # the network sees the image at an eighth of its resolution
    net = ConvLocalization(shape, downsample=8, rngs=rngs)
    start = tiles(family, tiling) + 0.01  # between the pixels
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

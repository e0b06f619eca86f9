"""What a TPU would run, on paper: ``python -m benchmarks.tpu``, which needs no TPU.

Compiles the sampler with the TPU's own compiler (``pip install "jax[tpu]"``, Linux)
for one chip, and counts what its programs hold and, by the compiler's own analysis, how
much they calculate and move. Nothing is run, nothing is timed.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

# for the compiler to start where no TPU is
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
os.environ.setdefault("TPU_WORKER_ID", "0")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import tyro
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

import stn_jax
from stn_jax.transforms import Attention

from . import report
from .cases import CASES, Case

CHIP = "v5e"

PAGE = """# What a TPU would run

Made by `{command}` on {date} with jax {jax}, libtpu {libtpu}, for one TPU {chip} chip:
compiled by its compiler, **not run**. "chosen" is `implementation=None`: products of
matrices for images of up to 64 x 64 pixels and for axis-aligned families. The
multiplications and additions, and the megabytes that the operations read and write
together, are the compiler's own estimates; a product of matrices is called a
convolution there. "both" is the forward pass and both gradients; `Attention` is `warp`
with it.

"""


@dataclass(frozen=True)
class Options:
    """Compile for a TPU, and count."""

    markdown: Path = Path("runs/tpu.md")
    """Where to write the table, as a page."""


def main(options: Options) -> None:
    """Compile, count, write."""
    topology = topologies.get_topology_desc(f"{CHIP}:2x2", platform="tpu")
    sharding = SingleDeviceSharding(topology.devices[0])
    head = ["images", "what", "way", "gathers", "scatters", "products", "GFLOP", "MB"]
    lines = [head, ["---", "---", "---", *["---:"] * 5]]
    for case in CASES[:3]:  # those of small images
        for what in ("forward", "both", "Attention"):
            for way in (None, "gather"):
                counts = _counts(case, what, way, sharding)
                line = [str(case), what, way or "chosen", *counts]
                print(*line)
                lines.append(line)
    versions = {name: report.version(name) for name in ("jax", "libtpu")}
    command = "python -m benchmarks.tpu"
    page = PAGE.format(command=command, date=report.today(), chip=CHIP, **versions)
    table = "".join("| " + " | ".join(line) + " |\n" for line in lines)
    report.write(options.markdown, page + table)
    print(options.markdown)


def _counts(
    case: Case, what: str, way: str | None, sharding: SingleDeviceSharding
) -> list[str]:
    def struct(*shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=sharding)

    def read(image: jax.Array, grid: jax.Array) -> jax.Array:
        return stn_jax.sample(image, grid, implementation=way)

    def both(image: jax.Array, grid: jax.Array, bar: jax.Array) -> tuple:
        out, pull = jax.vjp(read, image, grid)
        return out, pull(bar)

    def attention(image: jax.Array, params: jax.Array) -> jax.Array:
        asked = way or "dense"  # what a TPU's own process chooses
        return stn_jax.warp(image, Attention(), params, implementation=asked)

    image = struct(*case.image_shape)
    grid = struct(case.batch, *case.out_size, case.ndim)
    out = struct(case.batch, *case.out_size, case.channels)
    function, arrays = {
        "forward": (read, (image, grid)),
        "both": (both, (image, grid, out)),
        "Attention": (attention, (image, struct(case.batch, 3))),
    }[what]
    traced = jax.jit(function).trace(*arrays)
    program = traced.lower(lowering_platforms=("tpu",)).compile()
    text, costs = program.as_text(), program.cost_analysis()
    return [
        *(
            str(len(re.findall(rf" {operation}\(", text)))
            for operation in ("gather", "scatter", "convolution")
        ),
        f"{costs['flops'] / 1e9:.2f}",
        f"{costs['bytes accessed'] / 1e6:.0f}",
    ]


if __name__ == "__main__":
    main(tyro.cli(Options))

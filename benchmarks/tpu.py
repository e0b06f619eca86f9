"""What a TPU would run: ``python -m benchmarks.tpu``, which needs no TPU.

It compiles the sampler for one chip with the TPU compiler (``pip install "jax[tpu]"``,
Linux). It counts gathers, scatters and matrix products of the compiled programs, and
reports the compiler's estimates of operations and bytes. Nothing is run or timed.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

# let the compiler start without a TPU
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
from .packed import packed_sample

CHIP = "v5e"

PAGE = """# What a TPU would run

This page shows what the TPU compiler makes of the sampler. The programs are compiled
for one TPU {chip} chip, and **not run**.

Made by `{command}` on {date} with jax {jax}, libtpu {libtpu}.

- "forward" is the forward pass, "both" adds the gradients of image and grid,
  `Attention` is `warp` with that family.
- "default" is `implementation=None`: matrix products for images of up to 64 x 64 pixels
  and for axis-aligned families. "gather" is `implementation="gather"`: a gather for
  each of the four neighbors. "packed" gathers the four at once, from an image of 2 x 2
  windows, which the program makes first (`benchmarks/packed.py`); the library does not
  use it.
- "matmuls" counts the convolutions of the compiled program: this compiler represents a
  matrix product as a convolution.
- "GFLOP" and "MB" are the compiler's estimates: multiplications and additions, and
  the bytes that all operations read plus write.

"""


@dataclass(frozen=True)
class Options:
    """Compile the sampler for a TPU and count its operations."""

    markdown: Path = Path("runs/tpu.md")
    """File for the table, as a page of the docs."""


def main(options: Options) -> None:
    """Compile, count and write the page."""
    topology = topologies.get_topology_desc(f"{CHIP}:2x2", platform="tpu")
    sharding = SingleDeviceSharding(topology.devices[0])
    head = ["images", "what", "implementation", "gathers", "scatters", "matmuls"]
    head += ["GFLOP", "MB"]
    lines = [head, ["---", "---", "---", *["---:"] * 5]]
    for case in CASES[:3]:  # the cases of small images
        for what in ("forward", "both", "Attention"):
            for way in (None, "gather", "packed"):
                if what == "Attention" and way == "packed":
                    continue
                counts = _counts(case, what, way, sharding)
                line = [str(case), what, way or "default", *counts]
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

    def sample(image: jax.Array, grid: jax.Array) -> jax.Array:
        if way == "packed":
            return jax.vmap(packed_sample)(image, grid)
        return stn_jax.sample(image, grid, implementation=way)

    def both(image: jax.Array, grid: jax.Array, bar: jax.Array) -> tuple:
        out, pull = jax.vjp(sample, image, grid)
        return out, pull(bar)

    def attention(image: jax.Array, params: jax.Array) -> jax.Array:
        chosen = way or "dense"  # the default on a TPU
        return stn_jax.warp(image, Attention(), params, implementation=chosen)

    image = struct(*case.image_shape)
    grid = struct(case.batch, *case.out_size, case.ndim)
    out = struct(case.batch, *case.out_size, case.channels)
    function, arrays = {
        "forward": (sample, (image, grid)),
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

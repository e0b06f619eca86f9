"""What transformers cost in the networks for house numbers: ``-m benchmarks.multi``.

The paper says of its ST-CNN Multi, with four transformers, that a forward and a
backward pass take 6% longer than those of the CNN. Here the networks of appendix A.5,
and the lean ones, predict the same images and compute the gradients of all weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import tyro
from flax import nnx

from train.configs import Network
from train.models import build
from train.objective import cross_entropy
from train.specs import ModelSpec

from . import on_jax, ratios
from .timing import queued_calls

MODELS = ("cnn", "st_cnn-affine", "multi_st_cnn-affine")
BATCH = 8
NETWORKS: tuple[Network, ...] = ("svhn", "svhn_lean")


@dataclass(frozen=True)
class Options(ratios.Options):
    """Time the CNN, ST-CNN Single and ST-CNN Multi in turn."""

    sides: tuple[int, ...] = (64, 128)
    """Height and width of the images."""
    out: Path = Path("runs/multi.json")
    """File for the measurements, JSON."""


def main(options: Options) -> None:
    """Measure, print and write the rows."""
    ratios.run("benchmarks.multi", groups(options.sides), options, of="cnn", seconds=20)


def groups(sides: tuple[int, ...]) -> Iterator[ratios.Group]:
    """The three models, for each kind of networks and size of images."""
    for network in NETWORKS:
        for side in sides:
            programs = {name: _program(name, network, side) for name in MODELS}
            labels = {"network": network, "side": side}
            yield ratios.Group(
                programs, {name: {**labels, "model": name} for name in MODELS}
            )


def _program(name: str, network: Network, side: int) -> on_jax.Program:
    """The loss of a batch and the gradients of all weights."""
    model = build(
        ModelSpec.parse(name),
        network,
        canvas=(side, side, 3),
        size=(28, 28),
        num_classes=11,
        places=5,
        parameters=1,
        seed=0,
    )
    graphdef, state = nnx.split(model)
    images = jax.random.uniform(jax.random.key(0), (BATCH, side, side, 3))
    labels = jnp.zeros((BATCH, 5), jnp.int32)

    def loss(state: Any, images: jax.Array) -> jax.Array:
        return cross_entropy(nnx.merge(graphdef, state)(images), labels)

    return on_jax.Program(jax.value_and_grad(loss), state, images, calls=queued_calls())


if __name__ == "__main__":
    main(tyro.cli(Options))

"""``python -m train export``: a trained model as a program that jax alone runs."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import tyro
from flax import nnx
from jax import export

from ..storage.cards import Card, write_checked
from ..storage.files import Save, check_new, check_suffix, write_file
from ..storage.weights import find_weights, load_model
from .exported import SUFFIX

PLATFORMS = ("cpu", "cuda", "tpu")


@dataclass(frozen=True)
class Export:
    """Write a trained model as a StableHLO program that jax alone runs.

    The program takes images in [0, 1] and returns logits. It holds the weights.
    """

    path: tyro.conf.Positional[Path]
    """Folder with a model's weights, or a .safetensors file."""
    out: Path | None = None
    """The program, FILE.stablehlo. FILE.stablehlo.json describes it. Default: beside
    the weights."""
    overwrite: bool = False
    """Replace the files if they exist."""

    def __post_init__(self) -> None:
        check_suffix("out", self.out, SUFFIX)


def run_export(options: Export) -> Path:
    """Export a model and its card; return the program's path.

    Raises:
      ResultsError: there is no model, or it is corrupt.
      OutputError: a file exists or cannot be written.
    """
    weights = find_weights(options.path)
    out = options.out or weights.with_suffix(SUFFIX)
    for path in (out, out.with_name(f"{out.name}.json")):
        check_new(path, options.overwrite)
    model, card = load_model(weights)
    content = exported_program(model, card)
    origin = card.provenance | {
        "exported": {
            "date": datetime.date.today().isoformat(),
            "jax": jax.__version__,
            "platforms": list(PLATFORMS),
        }
    }
    card = replace(card, mean=0.0, std=1.0, provenance=origin)
    return write_checked(partial(_write_beside, out), out.name, content, card)


def exported_program(model: nnx.Module, card: Card) -> bytes:
    """Export a model for CPUs, NVIDIA GPUs and TPUs, with its normalization.

    The program maps float32 images ``(B, *input_shape)`` in ``card.input_range`` to
    logits ``(B, classes)`` for any ``B``. It never calls the compiled CPU kernel, which
    other machines lack: the library lowers exports to plain JAX.
    """
    graphdef, state = nnx.split(model)

    def logits(images: jax.Array) -> jax.Array:
        return nnx.merge(graphdef, state)((images - card.mean) / card.std)

    (batch,) = export.symbolic_shape("B")
    images = jax.ShapeDtypeStruct((batch, *card.input_shape), jnp.float32)
    program = export.export(jax.jit(logits), platforms=PLATFORMS)(images)
    return bytes(program.serialize())


def _write_beside(out: Path, name: str, save: Save) -> Path:
    return write_file(out.with_name(name), save)

"""Trained weights on disk: a safetensors file, and the card that describes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors.numpy import load as parse_safetensors
from safetensors.numpy import save as to_safetensors

from ..errors import ResultsError
from ..models import build, with_precision
from ..specs import ModelSpec
from .cards import Card, read_checked, write_checked
from .folder import Folder

SUFFIX = ".safetensors"


def load_model(path: str | Path) -> tuple[nnx.Module, Card]:
    """Load a trained model.

    Args:
      path: a ``.safetensors`` file, or a folder that holds the weights of one model:
        the best state is loaded, or the last if there is no best.

    Returns:
      The Flax NNX module, from images ``(B, *input_shape)`` to logits ``(B, classes)``,
      and its card. The module takes ``(image - card.mean) / card.std`` of images in
      ``card.input_range``.

    Raises:
      ResultsError: there are no weights, those of several models, or corrupt files.

    >>> model, card = load_model("runs/demo/models/st_cnn-affine")  # doctest: +SKIP
    >>> logits = model(jnp.zeros((8, *card.input_shape)))  # doctest: +SKIP
    """
    file = find_weights(Path(path))
    content, card = read_checked(file)
    try:
        arrays = parse_safetensors(content)
    except Exception as error:  # safetensors raises an exception type of its own
        raise ResultsError(f"{file} is not a safetensors file: {error}") from error
    # without initial weights, whose computation takes seconds
    model = nnx.eval_shape(lambda: module_of(card))
    nnx.update(model, with_arrays(nnx.state(model), arrays, file))
    return model, card


def as_function(model: nnx.Module) -> Callable[[np.ndarray], jax.Array]:
    """A model as a compiled function from images to logits."""
    graphdef, state = nnx.split(model)
    compiled = jax.jit(lambda state, images: nnx.merge(graphdef, state)(images))
    return partial(compiled, state)


def module_of(card: Card) -> nnx.Module:
    """The model that a card describes, with initial weights."""
    config = card.config
    model = build(
        ModelSpec.parse(card.model),
        config["network"],
        canvas=card.input_shape,
        size=card.digit_size,
        num_classes=len(card.classes),
        places=card.places,
        parameters=config["parameters"],
        bound=config["bound"],
        seed=config["seed"],
    )
    return with_precision(model, config.get("precision", "float32"))


def find_weights(path: Path) -> Path:
    """The file of the weights that a path names; see :func:`load_model`."""
    if path.is_file():
        if path.suffix == SUFFIX:
            return path
        raise ResultsError(f"{path} is not a {SUFFIX} file of weights")
    if not path.is_dir():
        raise ResultsError(f"{path}: no such file or folder")
    folders = sorted({file.parent for file in path.rglob(f"*{SUFFIX}")})
    if not folders:
        raise ResultsError(
            f"{path} holds no weights (*{SUFFIX}). A run writes them to the folder "
            "models when a model has been trained"
        )
    if len(folders) > 1:
        names = "\n".join(f"  {folder}" for folder in folders)
        raise ResultsError(f"{path} holds several models. Name one of them:\n{names}")
    best, last = (folders[0] / f"{name}{SUFFIX}" for name in ("best", "last"))
    return best if best.is_file() else last


def write_weights(folder: Folder, name: str, params: nnx.State, card: Card) -> Path:
    """Write weights to ``name.safetensors`` and, after them, their card."""
    # of several entries, safetensors would write one order or another
    content = to_safetensors(arrays_of(params), {"format": "flax"})
    return write_checked(folder.write, f"{name}{SUFFIX}", content, card)


def arrays_of(params: nnx.State) -> dict[str, np.ndarray]:
    """A state's arrays by their dotted names, such as ``classifier.conv1.kernel``."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    return {_name(path): np.asarray(leaf) for path, leaf in leaves}


def with_arrays(
    state: nnx.State, arrays: Mapping[str, np.ndarray], source: Path
) -> nnx.State:
    """A state of the same structure that holds the named arrays."""
    leaves, tree = jax.tree_util.tree_flatten_with_path(state)
    expected = {_name(path): (leaf.shape, leaf.dtype) for path, leaf in leaves}
    found = {name: (array.shape, array.dtype) for name, array in arrays.items()}
    if expected != found:
        differ = sorted(
            name
            for name in expected.keys() | found.keys()
            if expected.get(name) != found.get(name)
        )
        raise ResultsError(
            f"{source} does not hold the weights of the model that its card describes: "
            f"{', '.join(differ)} differ"
        )
    return jax.tree.unflatten(tree, [jnp.asarray(arrays[name]) for name in expected])


def _name(path: tuple[Any, ...]) -> str:
    keys = (entry.key for entry in path if isinstance(entry, jax.tree_util.DictKey))
    return ".".join(map(str, keys))

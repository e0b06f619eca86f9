"""Trained weights on disk: a safetensors file, and a JSON card that describes it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors.numpy import load as parse_safetensors
from safetensors.numpy import save as to_safetensors

from .errors import ResultsError
from .folder import Folder
from .models import build
from .specs import ModelSpec

FORMAT = "stn_jax model card 1"
SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Card:
    """What is known about a trained model, as stored beside its file.

    A card belongs to one file: ``best.safetensors.json`` to ``best.safetensors``.
    """

    model: str
    """The model's name on the command line, such as "st_cnn-affine"."""
    step: int
    """The number of steps after which these weights were stored."""
    chosen_by: str
    """Why this state was kept: "validation error" or "last step"."""
    classes: tuple[str, ...]
    """The names of the classes, in the order of the logits."""
    input_shape: tuple[int, ...]
    """Shape of an input image without its batch, ``(H, W, C)`` or ``(D, H, W, C)``."""
    input_range: tuple[float, float]
    """The least and the largest value of an input image."""
    mean: float
    """The model subtracts this from its input images, before ``std`` divides them."""
    std: float
    digit_size: tuple[int, int]
    """Height and width of the dataset's images, before the task distorts them."""
    parameters: int
    """The number of trainable parameters."""
    errors: dict[str, float]
    """Errors in percent by what they were measured on: training, validation, test."""
    provenance: dict[str, Any]
    """Configuration, data, command, date, device, versions and commit."""
    file: str = ""
    """The name of the file that the card belongs to."""
    size: int = 0
    """The size of that file, in bytes."""
    sha256: str = ""
    """The SHA-256 digest of that file."""

    @property
    def config(self) -> dict[str, Any]:
        """The settings of the training."""
        return self.provenance["config"]


def load_model(path: str | Path) -> tuple[nnx.Module, Card]:
    """Load a trained model.

    Args:
      path: a ``.safetensors`` file, or a folder that holds the weights of one model:
        the best state is loaded, or the last if there is no best.

    Returns:
      The Flax NNX module, from images ``(B, *input_shape)`` to logits ``(B, classes)``,
      and its card.

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
    model = module_of(card)
    nnx.update(model, with_arrays(nnx.state(model), arrays, file))
    return model, card


def module_of(card: Card) -> nnx.Module:
    """The model that a card describes, with initial weights."""
    config = card.config
    return build(
        ModelSpec.parse(card.model),
        config["network"],
        canvas=card.input_shape,
        size=card.digit_size,
        num_classes=len(card.classes),
        parameters=config["parameters"],
        bound=config["bound"],
        seed=config["seed"],
    )


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
    metadata = {"format": "flax", "model": card.model, "step": str(card.step)}
    content = to_safetensors(arrays_of(params), metadata)
    return write_checked(folder, f"{name}{SUFFIX}", content, card)


def write_checked(folder: Folder, name: str, content: bytes, card: Card) -> Path:
    """Write a file and its card, which holds the file's size and digest."""
    sha256 = hashlib.sha256(content).hexdigest()
    card = replace(card, file=Path(name).name, size=len(content), sha256=sha256)
    path = folder.write(name, lambda path: path.write_bytes(content))
    folder.write(f"{name}.json", lambda path: path.write_text(_to_json(card)))
    return path


def read_checked(file: Path) -> tuple[bytes, Card]:
    """The content of a file and its card.

    Raises:
      ResultsError: the file or its card is missing, unreadable or corrupt.
    """
    card = read_card(file)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ResultsError(f"{file} cannot be read: {error.strerror}") from error
    found = hashlib.sha256(content).hexdigest()
    if (len(content), found) != (card.size, card.sha256):
        raise ResultsError(
            f"{file} is corrupt: its card says {card.size} bytes with the SHA-256 "
            f"{card.sha256}, the file has {len(content)} with {found}"
        )
    return content, card


def read_card(file: Path) -> Card:
    """The card of a file.

    Raises:
      ResultsError: the card is missing, unreadable or corrupt.
    """
    path = file.with_name(f"{file.name}.json")
    try:
        content = json.loads(path.read_text())
        digest = content.pop("card_sha256")
        if digest != _card_digest(content) or content.pop("format") != FORMAT:
            raise ValueError("its digest does not match its content")
        tuples = {k: tuple(v) for k, v in content.items() if isinstance(v, list)}
        return Card(**content | tuples)
    except FileNotFoundError:
        raise ResultsError(f"{path}: no such file; {file.name} needs it") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ResultsError(f"{path} is corrupt or not a model card: {error}") from error


def _to_json(card: Card) -> str:
    content = json.loads(json.dumps({"format": FORMAT, **asdict(card)}))
    content["card_sha256"] = _card_digest(content)
    return json.dumps(content, indent=2) + "\n"


def _card_digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


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

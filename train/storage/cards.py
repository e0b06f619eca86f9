"""Cards: JSON files that describe a trained model, each beside the model's file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import ResultsError
from .files import Save

FORMAT = "stn_jax model card 1"
Write = Callable[[str, Save], Path]  # such as Folder.write


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
    """The model takes ``(image - mean) / std`` of an image in ``input_range``. An
    exported program computes this itself, and its card has 0 and 1."""
    std: float
    digit_size: tuple[int, int]
    """Height and width of the dataset's images, before the task distorts them."""
    parameters: int
    """The number of trainable parameters."""
    errors: dict[str, float]
    """Errors in percent by what they were measured on: training, validation, test."""
    provenance: dict[str, Any]
    """Configuration, data, command, date, device, versions and commit."""
    places: int | None = None
    """The classes that are predicted for each image, as for a house number; None, which
    the JSON file leaves out, for one class."""
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


def write_checked(write: Write, name: str, content: bytes, card: Card) -> Path:
    """Write a file and then its card, which holds the file's size and digest.

    Args:
      write: writes a file of a name completely or not at all, as :meth:`Folder.write`.
      name: the file's name. The card's name has ".json" after it.
      content: the file's content.
      card: the card without size and digest.

    Returns:
      The file's path.
    """
    sha256 = hashlib.sha256(content).hexdigest()
    card = replace(card, file=Path(name).name, size=len(content), sha256=sha256)
    path = write(name, lambda path: path.write_bytes(content))
    write(f"{name}.json", lambda path: path.write_text(_to_json(card)))
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
        text = path.read_text()
        content = json.loads(text)
        del content["card_sha256"], content["format"]
        tuples = {k: tuple(v) for k, v in content.items() if isinstance(v, list)}
        card = Card(**content | tuples)
        if text != _to_json(card):
            raise ValueError("its digest does not match its content")
        return card
    except FileNotFoundError:
        raise ResultsError(f"{path}: no such file; {file.name} needs it") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ResultsError(f"{path} is corrupt or not a model card: {error}") from error


def _to_json(card: Card) -> str:
    content = json.loads(json.dumps({"format": FORMAT, **asdict(card)}))
    if card.places is None:  # as in files from before there were places
        del content["places"]
    content["card_sha256"] = _card_digest(content)
    return json.dumps(content, indent=2) + "\n"


def _card_digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()

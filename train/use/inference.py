"""Classification of images with a trained or an exported model.

Files that import flax are imported only for weights: an exported model runs without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np

from ..errors import DataError
from ..storage.cards import Card
from .exported import SUFFIX, load_exported
from .inputs import Input, normalized, prepare

if TYPE_CHECKING:
    from flax import nnx


class Prediction(NamedTuple):
    """What a model predicts for an image."""

    name: str
    """The image's name."""
    image: np.ndarray
    """``(*input_shape)``, floats in the model's range."""
    probabilities: np.ndarray
    """``(classes,)``, or ``(places, classes)`` of house numbers."""


class Unusable(NamedTuple):
    """An image that cannot be classified."""

    name: str
    error: str


class LoadedModel(NamedTuple):
    """A model, and what describes it."""

    card: Card
    logits: Callable[[np.ndarray], jax.Array]
    """Maps standardized images ``(B, *input_shape)`` to logits ``(B, classes)``, or
    ``(B, places, classes)`` of house numbers."""
    module: nnx.Module | None
    """The module; None for an exported model."""


def load_any(path: Path) -> LoadedModel:
    """Load weights or an exported model.

    Args:
      path: a folder with a model's weights, a .safetensors or a .stablehlo file.

    Raises:
      ResultsError: there is no model, or it is corrupt.
    """
    if path.suffix == SUFFIX:
        logits, card = load_exported(path)
        return LoadedModel(card, logits, None)
    from ..storage.weights import as_function, load_model

    module, card = load_model(path)
    return LoadedModel(card, as_function(module), module)


def classify(
    model: LoadedModel, inputs: Sequence[Input], batch_size: int, resize: bool
) -> Iterator[Prediction | Unusable]:
    """Classify images in batches; yield the results in the order of the images.

    All batches have one size, so that the model is compiled once: rows without an image
    hold zeros.

    Args:
      model: the model.
      inputs: the images. Each is read when its batch is classified.
      batch_size: images per batch.
      resize: whether images of another size are scaled to fit.
    """
    size = min(batch_size, len(inputs))
    batch = np.zeros((size, *model.card.input_shape), np.float32)
    for start in range(0, len(inputs), batch_size):
        part = inputs[start : start + size]
        images = [_read_or_error(item, model.card, resize) for item in part]
        batch[:] = 0
        for row, image in zip(batch, images, strict=False):
            if isinstance(image, np.ndarray):
                row[:] = image
        logits = model.logits(normalized(batch, model.card))
        probabilities = np.asarray(jax.nn.softmax(logits))
        for item, image, of in zip(part, images, probabilities, strict=False):
            if isinstance(image, DataError):
                yield Unusable(item.name, str(image))
            else:
                yield Prediction(item.name, image, of)


def _read_or_error(item: Input, card: Card, resize: bool) -> np.ndarray | DataError:
    """An image, or the error that says why it cannot be used."""
    try:
        return prepare(item, card, resize)
    except DataError as error:
        return error

"""Exported models: StableHLO programs that need none of this program's models.

Only jax runs them: neither flax nor the code of the models is imported.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from jax import export

from ..errors import ResultsError
from ..storage.cards import Card, read_checked

SUFFIX = ".stablehlo"


def load_exported(path: Path) -> tuple[Callable[[np.ndarray], jax.Array], Card]:
    """Load an exported model.

    Args:
      path: a ``.stablehlo`` file; its card is beside it.

    Returns:
      The function from images ``(B, *input_shape)`` in ``card.input_range`` to logits
      ``(B, classes)``, and the card.

    Raises:
      ResultsError: the file or its card is missing, corrupt, or of a newer version.
    """
    if not path.is_file():
        raise ResultsError(f"{path}: no such file")
    content, card = read_checked(path)
    try:
        program = export.deserialize(bytearray(content))
    except Exception as error:  # of jax, flatbuffers or MLIR
        raise ResultsError(
            f"jax {jax.__version__} cannot load {path}: {error}. Export the model again"
        ) from error
    return jax.jit(program.call), card

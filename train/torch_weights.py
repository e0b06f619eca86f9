"""The network of PyTorch's tutorial with weights that PyTorch trained.

The tutorial (https://docs.pytorch.org/tutorials/intermediate/spatial_transformer_tutorial.html)
keeps them with ``torch.save(model.state_dict(), ...)``. Reading them here needs no
PyTorch if they are saved with
``safetensors.torch.save_file(model.state_dict(), FILE)``, or with
``numpy.savez(FILE, **{name: x.numpy() for name, x in model.state_dict().items()})``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from .errors import DataError
from .models import build
from .specs import ModelSpec
from .transformers import STN

_LAYERS = {  # PyTorch's name: the path in our STN
    "localization.0": ("transformer0", "localization", "conv1"),
    "localization.3": ("transformer0", "localization", "conv2"),
    "fc_loc.0": ("transformer0", "localization", "dense"),
    "fc_loc.2": ("transformer0", "regression"),
    "conv1": ("classifier", "conv1"),
    "conv2": ("classifier", "conv2"),
    "fc1": ("classifier", "dense"),
    "fc2": ("classifier", "logits"),
}
_BEHIND_PIXELS = {"fc_loc.0": 10, "fc1": 20}  # channels of the flattened features


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of a .safetensors or .npz file, by name."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.numpy import load_file

            return load_file(path)
        with np.load(path, allow_pickle=False) as archive:
            return dict(archive)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except Exception as error:
        raise DataError(
            f"{path} cannot be read as .safetensors or .npz: {error}"
        ) from error


def tutorial(state_dict: Mapping[str, np.ndarray]) -> STN:
    """The tutorial's network with these weights.

    It maps images ``(B, 28, 28, 1)``, normalized as in the tutorial by
    (x - 0.1307) / 0.3081, to logits ``(B, 10)``. The tutorial's network returns their
    log-softmax.

    Raises:
      DataError: the names or shapes are not the tutorial's.
    """
    model = build(
        ModelSpec("cnn", "affine", 1),
        "tutorial",
        canvas=(28, 28, 1),
        size=(28, 28),
        num_classes=10,
        parameters=100_000,
        seed=0,
    )
    assert isinstance(model, STN)
    names = {f"{layer}.{kind}" for layer in _LAYERS for kind in ("weight", "bias")}
    if names != state_dict.keys():
        raise DataError(
            "these are not the weights of the tutorial's network: missing are "
            f"{sorted(names - state_dict.keys())}, unknown are "
            f"{sorted(state_dict.keys() - names)}"
        )
    for name, path in _LAYERS.items():
        layer: Any = model
        for part in path:
            layer = getattr(layer, part)
        *window, inputs, outputs = layer.kernel[...].shape
        weight = _finite(state_dict, f"{name}.weight", (outputs, inputs, *window))
        bias = _finite(state_dict, f"{name}.bias", (outputs,))
        layer.kernel[...] = jnp.asarray(_kernel(weight, name))
        layer.bias[...] = jnp.asarray(bias)
    return model


def _finite(
    state_dict: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...]
) -> np.ndarray:
    """An array of the state dict as float32, if it is finite and of this shape."""
    array = np.asarray(state_dict[name])
    if array.dtype.kind != "f" or array.shape != shape:
        raise DataError(
            f"{name}: expected floats of the shape {shape}, got {array.dtype} of "
            f"{array.shape}"
        )
    if not np.isfinite(array).all():
        raise DataError(f"{name} holds NaN or infinite numbers")
    return array.astype(np.float32)


def _kernel(weight: np.ndarray, name: str) -> np.ndarray:
    """Transpose PyTorch's weights to (height, width, in, out) or (in, out).

    A layer behind flattened features also permutes its inputs: PyTorch flattens
    (channels, height, width), this network (height, width, channels).
    """
    if weight.ndim == 4:
        return weight.transpose(2, 3, 1, 0)
    if (channels := _BEHIND_PIXELS.get(name)) is None:
        return weight.T
    side = round((weight.shape[1] / channels) ** 0.5)
    cells = weight.reshape(len(weight), channels, side, side)
    return cells.transpose(2, 3, 1, 0).reshape(-1, len(weight))

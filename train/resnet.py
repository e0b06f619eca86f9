"""ResNets (https://arxiv.org/abs/1512.03385) with weights that PyTorch trained.

torchvision's weights for ImageNet are saved for :func:`with_weights` by
``safetensors.torch.save_file(resnet50(weights="DEFAULT").state_dict(), FILE)``. Reading
them here needs no PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from safetensors import deserialize

from .convolution import convolve
from .errors import ConfigError, ResultsError

BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}  # of each stage, by the depth
MEAN = np.array([0.485, 0.456, 0.406], np.float32)  # of ImageNet, RGB in [0, 1]
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)

# Without normalization, each block would increase the variance of its features. With
# zeros in its last kernel, it starts as its shortcut.
_FIRST = nnx.initializers.he_normal()
_LAST = nnx.initializers.zeros_init()
_NORM = ("weight", "bias", "running_mean", "running_var")  # of a batch normalization
_EPSILON = 1e-5  # that PyTorch adds to the variance
_UNUSED = ("fc.weight", "fc.bias", "num_batches_tracked")  # ends of names
_FLOATS = {"F16": np.float16, "BF16": jnp.bfloat16, "F32": np.float32, "F64": float}


class Block(nnx.Module):
    """Convolutions whose output is added to their input: two, or a bottleneck of three.

    The input passes through another convolution, ``downsample``, if its shape differs
    from the output's.
    """

    def __init__(
        self, inputs: int, width: int, stride: int, is_bottleneck: bool, rngs: nnx.Rngs
    ) -> None:
        self.count = 3 if is_bottleneck else 2
        self.features = 4 * width if is_bottleneck else width
        if is_bottleneck:
            self.conv1 = _conv(inputs, width, 1, 1, rngs)
            self.conv2 = _conv(width, width, 3, stride, rngs)
            self.conv3 = _conv(width, self.features, 1, 1, rngs, _LAST)
        else:
            self.conv1 = _conv(inputs, width, 3, stride, rngs)
            self.conv2 = _conv(width, width, 3, 1, rngs, _LAST)
        is_same = stride == 1 and inputs == self.features
        self.downsample = (
            None if is_same else _conv(inputs, self.features, 1, stride, rngs)
        )

    @property
    def convolutions(self) -> tuple[nnx.Conv, ...]:
        """The convolutions in order, without ``downsample``."""
        return tuple(getattr(self, f"conv{i + 1}") for i in range(self.count))

    def __call__(self, images: jax.Array) -> jax.Array:
        """Map ``(B, H, W, inputs)`` to ``(B, H / stride, W / stride, features)``."""
        *convolutions, last = self.convolutions
        x = images
        for conv in convolutions:
            x = nnx.relu(conv(x))
        shortcut = images if self.downsample is None else self.downsample(images)
        return nnx.relu(last(x) + shortcut)


class ResNet(nnx.Module):
    """A ResNet without its classifier: from images to feature maps.

    Each batch normalization is folded into its convolution, which therefore has a bias.
    Fine-tuning keeps ImageNet's statistics, because small batches estimate their own
    badly. The state of a training is then the parameters alone (``nnx.Param``), and the
    network computes the same function in training and in evaluation.

    Args:
      depth: 18 or 50.
      rngs: for the initial weights.

    Raises:
      ConfigError: another depth.
    """

    def __init__(self, depth: int, rngs: nnx.Rngs) -> None:
        if depth not in BLOCKS:
            raise ConfigError(f"the depth of a ResNet is 18 or 50; got {depth}")
        self.depth = depth
        self.conv1 = _conv(3, 64, 7, 2, rngs)
        self.features = 64
        for stage, count in enumerate(BLOCKS[depth]):
            for i in range(count):
                stride = 2 if stage > 0 and i == 0 else 1
                width = 64 * 2**stage
                block = Block(self.features, width, stride, depth == 50, rngs)
                setattr(self, f"layer{stage + 1}_{i}", block)
                self.features = block.features

    @property
    def blocks(self) -> dict[str, Block]:
        """The blocks in order, by torchvision's names (``layer1.0``)."""
        return {
            f"layer{stage}.{i}": getattr(self, f"layer{stage}_{i}")
            for stage, count in enumerate(BLOCKS[self.depth], start=1)
            for i in range(count)
        }

    def __call__(self, images: jax.Array) -> jax.Array:
        """Map images ``(B, H, W, 3)`` to ``(B, ceil(H / 32), ceil(W / 32), features)``.

        The images are RGB in [0, 1]; the network standardizes them as in ImageNet's
        training. It has 512 features at the depth of 18, and 2048 at 50.
        """
        x = nnx.relu(self.conv1((images - MEAN) / DEVIATION))
        pads = ((0, 0), (1, 1), (1, 1), (0, 0))
        x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), pads)
        for block in self.blocks.values():
            x = block(x)
        return x


def _conv(
    inputs: int,
    features: int,
    window: int,
    stride: int,
    rngs: nnx.Rngs,
    init: nnx.Initializer = _FIRST,
) -> nnx.Conv:
    """A convolution with equal padding on all sides, as in PyTorch.

    At a stride of 2, "SAME" pads images of even sizes more at their end.
    """
    return nnx.Conv(
        inputs,
        features,
        (window, window),
        strides=stride,
        padding=window // 2,
        kernel_init=init,
        conv_general_dilated=convolve,
        rngs=rngs,
    )


def with_weights(model: ResNet, path: Path) -> ResNet:
    """Set a ResNet's parameters to weights with torchvision's names.

    Floats of 16 or 64 bits are converted to float32. The file's classifier, ``fc``, is
    not used and may be absent.

    Args:
      model: the ResNet; it may come from ``nnx.eval_shape``.
      path: a ``.safetensors`` file.

    Returns:
      The same ResNet.

    Raises:
      ResultsError: the file is unreadable, or does not hold finite weights of a ResNet
        of this depth.
    """
    arrays = _read_weights(path)
    _check(arrays, model, path)
    for name, norm, conv in _convolutions(model):
        norms = [arrays[f"{norm}.{kind}"] for kind in _NORM]
        kernel, bias = map(jnp.asarray, _fold(arrays[f"{name}.weight"], *norms))
        nnx.update(conv, {"kernel": kernel, "bias": bias})
    return model


def _read_weights(path: Path) -> dict[str, np.ndarray]:
    """The file's arrays of floats by name, as float32, without the unused ones."""
    try:  # safetensors.numpy knows bfloat16 in its newest versions only
        entries = deserialize(path.read_bytes())
    except FileNotFoundError:
        raise ResultsError(f"{path}: no such file") from None
    except Exception as error:  # safetensors raises an exception type of its own
        raise ResultsError(f"{path} cannot be read as safetensors: {error}") from error
    with np.errstate(over="ignore"):  # infinite numbers are reported by name
        return {
            name: np.frombuffer(entry["data"], _FLOATS[entry["dtype"]])
            .astype(np.float32)
            .reshape(entry["shape"])
            for name, entry in entries
            if entry["dtype"] in _FLOATS and not name.endswith(_UNUSED)
        }


def _check(arrays: Mapping[str, np.ndarray], model: ResNet, path: Path) -> None:
    """Check names and shapes, then numbers."""
    expected = _shapes(model)
    found = {name: array.shape for name, array in arrays.items()}
    if found != expected:
        message = f"{path} does not hold the weights of a ResNet-{model.depth}: "
        for depth in BLOCKS.keys() - {model.depth}:
            other = nnx.eval_shape(lambda depth=depth: ResNet(depth, nnx.Rngs(0)))
            if found == _shapes(other):
                raise ResultsError(f"{message}they are those of a ResNet-{depth}")
        missing, unexpected = expected.keys() - found, found.keys() - expected
        others = {k for k in expected.keys() & found if found[k] != expected[k]}
        raise ResultsError(
            f"{message}missing are {_few(missing)}, unexpected are {_few(unexpected)}, "
            f"of other shapes are {_few(others)}"
        )
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ResultsError(f"{path}: {name} holds NaN or infinite numbers")
        if name.endswith("running_var") and array.min() < 0:
            raise ResultsError(f"{path}: {name} holds negative numbers")


def _shapes(model: ResNet) -> dict[str, tuple[int, ...]]:
    """The shapes of torchvision's arrays, by name."""
    shapes = {}
    for name, norm, conv in _convolutions(model):
        features = conv.out_features
        shapes[f"{name}.weight"] = (features, conv.in_features, *conv.kernel_size)
        shapes |= {f"{norm}.{kind}": (features,) for kind in _NORM}
    return shapes


def _convolutions(model: ResNet) -> Iterator[tuple[str, str, nnx.Conv]]:
    """Each convolution, after torchvision's names of it and of its normalization."""
    yield "conv1", "bn1", model.conv1
    for name, block in model.blocks.items():
        for i, conv in enumerate(block.convolutions, start=1):
            yield f"{name}.conv{i}", f"{name}.bn{i}", conv
        if block.downsample is not None:
            yield f"{name}.downsample.0", f"{name}.downsample.1", block.downsample


def _few(names: set[str]) -> str:
    """The first three names, and the number of the others."""
    first, others = sorted(names)[:3], len(names) - 3
    return ", ".join(first or ["none"]) + (f" and {others} more" if others > 0 else "")


def _fold(
    weight: np.ndarray, scale: np.ndarray, shift: np.ndarray, mean: Any, variance: Any
) -> tuple[np.ndarray, np.ndarray]:
    """The kernel ``(h, w, in, out)`` and the bias ``(out,)`` of both layers as one.

    They compute ``scale (weight * x - mean) / sqrt(variance + epsilon) + shift``.
    """
    factor = scale / np.sqrt(variance.astype(np.float64) + _EPSILON)
    kernel = weight.transpose(2, 3, 1, 0) * factor
    return kernel.astype(np.float32), (shift - mean * factor).astype(np.float32)

"""The networks of appendix A.5 for house numbers, and lean ones of the same topology.

A house number has up to five digits. Its label has five places, and class 0 stands for
a place without a digit. A network predicts the classes of all places at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import jax
from flax import nnx

from stn_jax.nnx import DenseLocalization
from stn_jax.pooling import max_pool
from stn_jax.transforms import Affine

from .blocks import convolve_few
from .classifiers import Stage, dropout, layer_keys
from .errors import ConfigError
from .specs import ModelSpec
from .transformers import STN, BoundedTransformer, MultiSTCNN, input_shapes

WIDTHS = (48, 64, 128, 160, 192, 192, 192, 192)
POOLED = (0, 2, 4, 6)  # convolutions that are max pooled
DENSE = 3072
LOCALIZATION = 32  # channels of the localization network's convolutions
MULTI = 4  # transformers, each before a convolution
LEAN = 8  # times as few channels in the lean networks

he_normal = nnx.initializers.he_normal()
# for so few channels both are faster than the matrix of patches: blocks, XLA's own
Convolution = partial(
    nnx.Conv,
    kernel_size=(5, 5),
    kernel_init=he_normal,
    conv_general_dilated=convolve_few,
)


class NumberCNN(nnx.Module):
    """Eight convolutions, four of them max pooled, and two fully connected layers.

    In training every layer but the first convolution is followed by dropout, unless the
    network is lean: a small network that learns from new images in each step does not
    need it.

    Args:
      image_shape: ``(H, W, C)``.
      num_classes: the classes of a place; all places have the same.
      places: the places of a label; None for labels of one class.
      lean: divide the widths by 8.
      rngs: Flax's random streams.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        num_classes: int,
        places: int | None,
        lean: bool,
        rngs: nnx.Rngs,
    ) -> None:
        *size, inputs = image_shape
        self.count, self.drops = len(WIDTHS), not lean
        self.shape = (num_classes,) if places is None else (places, num_classes)
        for index, width in enumerate(_thinned(WIDTHS, lean)):
            setattr(self, f"conv{index}", Convolution(inputs, width, rngs=rngs))
            inputs = width
            size = [n // 2 for n in size] if index in POOLED else size
        if min(size) < 1:
            raise ValueError("four times max pooled, no pixel is left")
        linear = partial(nnx.Linear, kernel_init=he_normal, rngs=rngs)
        (dense,) = _thinned((DENSE,), lean)
        self.dense0 = linear(math.prod(size) * inputs, dense)
        self.dense1 = linear(dense, dense)
        self.logits = nnx.Linear(dense, math.prod(self.shape), rngs=rngs)

    def stages(self, keys: jax.Array | None = None) -> tuple[Stage, ...]:
        """The convolutions and the fully connected layers, as functions."""
        if not self.drops:
            keys = None
        own = layer_keys(keys, self.count + 2)
        convolutions = [
            partial(self._convolve, index, own[index] if index else None)
            for index in range(self.count)
        ]
        return (*convolutions, partial(self._classify, own[self.count :]))

    def _convolve(self, index: int, keys: jax.Array | None, x: jax.Array) -> jax.Array:
        x = nnx.relu(getattr(self, f"conv{index}")(x))
        return dropout(max_pool(x, 2) if index in POOLED else x, keys)

    def _classify(self, keys: Sequence[jax.Array | None], x: jax.Array) -> jax.Array:
        x = x.reshape(x.shape[0], -1)
        for dense, own in zip((self.dense0, self.dense1), keys, strict=True):
            x = dropout(nnx.relu(dense(x)), own)
        return self.logits(x).reshape(x.shape[0], *self.shape)

    def __call__(self, images: jax.Array, keys: jax.Array | None = None) -> jax.Array:
        """Map images ``(B, H, W, C)`` to logits ``(B, places, num_classes)``."""
        x = images
        for stage in self.stages(keys):
            x = stage(x)
        return x


class NumberLocalization(nnx.Module):
    """The localization network of ST-CNN Single: two convolutions, one dense layer.

    The paper calls it a four-layer CNN; the fourth layer predicts the parameters.
    """

    def __init__(self, image_shape: Sequence[int], lean: bool, rngs: nnx.Rngs) -> None:
        *size, channels = image_shape
        (width,) = _thinned((LOCALIZATION,), lean)
        self.conv0 = Convolution(channels, width, rngs=rngs)
        self.conv1 = Convolution(width, width, rngs=rngs)
        inputs = math.prod(n // 2 for n in size) * width
        self.dense = nnx.Linear(inputs, LOCALIZATION, rngs=rngs)
        self.features = LOCALIZATION

    def __call__(self, images: jax.Array) -> jax.Array:
        """Map images ``(B, H, W, C)`` to features ``(B, 32)``."""
        x = nnx.relu(self.conv1(max_pool(nnx.relu(self.conv0(images)), 2)))
        return nnx.relu(self.dense(x.reshape(x.shape[0], -1)))


def _thinned(widths: Sequence[int], lean: bool) -> list[int]:
    return [width // LEAN if lean else width for width in widths]


def for_numbers(
    spec: ModelSpec,
    image_shape: Sequence[int],
    num_classes: int,
    places: int | None,
    lean: bool,
    bound: float | None,
    rngs: nnx.Rngs,
) -> nnx.Module:
    """The CNN, ST-CNN Single or ST-CNN Multi of appendix A.5.

    Single has a transformer of the image. Multi has one before each of the first four
    convolutions. All are affine.
    """
    cnn = NumberCNN(image_shape, num_classes, places, lean, rngs)
    if spec == ModelSpec("cnn"):
        return cnn
    affine = partial(BoundedTransformer, transform=Affine(), bound=bound, rngs=rngs)
    if spec == ModelSpec("cnn", "affine", 1):
        localization = NumberLocalization(image_shape, lean, rngs)
        return STN([affine(localization, features=LOCALIZATION)], cnn)
    if spec != ModelSpec("cnn", "affine", 1, on_features=True):
        raise ConfigError(
            f"the networks of A.5 are cnn, st_cnn-affine and multi_st_cnn-affine; got "
            f"{spec.name}"
        )
    transformers = []
    for shape in input_shapes(cnn.stages(), image_shape)[:MULTI]:
        localization = DenseLocalization(shape, hidden=(32, 32), rngs=rngs)
        transformers.append(affine(localization, features=localization.features))
    return MultiSTCNN(transformers, cnn)

"""Networks for fine-grained classes: windows of the image (section 4.3, appendix A.6).

A backbone maps images ``(B, H, W, 3)`` to feature maps ``(B, h, w, features)``. Any
module with an attribute ``features`` serves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
from flax import nnx

from stn_jax.pooling import average_pool, max_pool
from stn_jax.transforms import Attention, tiles

from .classifiers import dropout
from .errors import ConfigError
from .resnet import ResNet
from .specs import ModelSpec
from .transformers import Windows, WindowSTN

SCALE = 0.5  # of a window, in that of the image
GRIDS = {2: (1, 2), 4: (2, 2)}  # rows and columns of the windows at the start
DROPPED = 0.7  # share of the features that dropout drops

SIDE = 224  # of a window in pixels, as the backbone of the paper takes it
DEPTH = 50  # of the ResNet
WIDTHS = {0: 25, 2: 16, 4: 11}  # of the lean backbones, by the number of windows
LOCALIZATION = 8  # width of the lean localization network's backbone
he_normal = nnx.initializers.he_normal()
leaky_relu = partial(nnx.leaky_relu, negative_slope=0.1)


class LeanBackbone(nnx.Module):
    """Three convolutions, to an eighth of the resolution.

    Args:
      width: channels of the first convolution; the third has four times as many.
      rngs: Flax's random streams.
    """

    def __init__(self, width: int, rngs: nnx.Rngs) -> None:
        conv = partial(nnx.Conv, kernel_init=he_normal, rngs=rngs)
        self.conv0 = conv(3, width, (5, 5), strides=(2, 2))
        self.conv1 = conv(width, 2 * width, (3, 3))
        self.conv2 = conv(2 * width, 4 * width, (3, 3))
        self.features = 4 * width

    def __call__(self, images: jax.Array) -> jax.Array:
        """Map images ``(B, H, W, 3)`` to ``(B, H / 8, W / 8, features)``."""
        x = nnx.relu(self.conv0(images))
        x = max_pool(nnx.relu(self.conv1(x)), 2)
        return max_pool(nnx.relu(self.conv2(x)), 2)


class Pooled(nnx.Module):
    """The mean of a backbone's feature maps, or their maximum.

    The images are first averaged down by ``downsample``.
    """

    def __init__(self, backbone: Any, by_maximum: bool, downsample: int = 1) -> None:
        self.backbone, self.by_maximum = backbone, by_maximum
        self.downsample = downsample
        self.features = backbone.features

    def __call__(self, images: jax.Array) -> jax.Array:
        """Map images ``(B, H, W, 3)`` to features ``(B, features)``."""
        maps = self.backbone(average_pool(images, self.downsample))
        return maps.max(axis=(1, 2)) if self.by_maximum else maps.mean(axis=(1, 2))


class DroppedLinear(nnx.Module):
    """A linear layer. In training, dropout first drops 70% of the features.

    With ``drops=False`` it keeps them all.
    """

    def __init__(
        self, features: int, num_classes: int, drops: bool, rngs: nnx.Rngs
    ) -> None:
        self.drops = drops
        self.linear = nnx.Linear(features, num_classes, rngs=rngs)

    def __call__(self, x: jax.Array, keys: jax.Array | None = None) -> jax.Array:
        """Map features ``(B, features)`` to logits ``(B, num_classes)``."""
        return self.linear(dropout(x, keys if self.drops else None, DROPPED))


class WholeCNN(nnx.Module):
    """The classifier of the whole image: one backbone, one linear layer."""

    def __init__(self, network: Pooled, classifier: DroppedLinear) -> None:
        self.network, self.classifier = network, classifier

    def __call__(self, images: jax.Array, keys: jax.Array | None = None) -> jax.Array:
        """Map images ``(B, H, W, 3)`` to logits ``(B, num_classes)``."""
        return self.classifier(self.network(images), keys)


class WindowLocalization(nnx.Module):
    """A backbone, a convolution of 1x1 to ``channels``, and a fully connected layer.

    In the paper both have 128. It does not name the activations. Under ReLUs, all
    features of a lean network became zero for all images, and the windows stood still
    for good. The features of leaky ReLUs keep a gradient.
    """

    def __init__(
        self,
        backbone: Any,
        image_shape: Sequence[int],
        downsample: int,
        channels: int,
        rngs: nnx.Rngs,
    ) -> None:
        self.backbone, self.downsample = backbone, downsample
        height, width = (n // downsample for n in image_shape[:-1])
        images = jax.ShapeDtypeStruct((1, height, width, image_shape[-1]), "float32")
        maps = jax.eval_shape(backbone, images)
        self.conv = nnx.Conv(backbone.features, channels, (1, 1), rngs=rngs)
        inputs = math.prod(maps.shape[1:-1]) * channels
        self.dense = nnx.Linear(inputs, channels, kernel_init=he_normal, rngs=rngs)
        self.features = channels

    def __call__(self, images: jax.Array) -> jax.Array:
        """Map images ``(B, H, W, 3)`` to features ``(B, channels)``."""
        x = self.backbone(average_pool(images, self.downsample))
        x = leaky_relu(self.conv(x))
        return leaky_relu(self.dense(x.reshape(x.shape[0], -1)))


def with_windows(
    spec: ModelSpec,
    image_shape: Sequence[int],
    num_classes: int,
    lean: bool,
    rngs: nnx.Rngs,
) -> nnx.Module:
    """The CNN, or 2xST-CNN or 4xST-CNN: windows that learn their places.

    A window has half the image's height and width. The CNN sees the whole image in a
    window's number of pixels. The lean backbones' widths are such that all models have
    the same cost.
    """
    if spec != ModelSpec("cnn") and spec.transform != "attention":
        names = "cnn, 2xst_cnn-attention and 4xst_cnn-attention"
        raise ConfigError(f"the networks with windows are {names}; got {spec.name}")
    if image_shape[-1] != 3:
        raise ConfigError(f"--network cub needs images in color; got {image_shape}")

    def backbone(width: int) -> Any:
        return LeanBackbone(width, rngs) if lean else ResNet(DEPTH, rngs)

    height, width = image_shape[:-1]
    size = (height // 2, width // 2) if lean else (SIDE, SIDE)
    downsample = max(height // size[0], 1)
    count = spec.transformers
    # ResNets were trained with the mean; small networks learn faster by the maximum
    networks = [Pooled(backbone(WIDTHS[count]), lean) for _ in range(count or 1)]
    features = sum(network.features for network in networks)
    classifier = DroppedLinear(features, num_classes, not lean, rngs)
    if not count:
        networks[0].downsample = downsample
        return WholeCNN(networks[0], classifier)
    localization = WindowLocalization(
        backbone(LOCALIZATION), image_shape, downsample, 32 if lean else 128, rngs
    )
    attention = Attention(scale=SCALE)
    transformers = Windows(
        localization,
        attention,
        tiles(attention, GRIDS[count]),
        size,
        features=localization.features,
        rngs=rngs,
    )
    return WindowSTN(transformers, networks, classifier)

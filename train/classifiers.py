"""Classifiers: the networks of section 4.1 of the paper, and smaller ones for a CPU.

Each maps images ``(B, H, W, C)`` to logits ``(B, num_classes)``. In training it also
takes a key per image, for dropout.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
from flax import nnx

from stn_jax.pooling import average_pool, max_pool

from .convolution import convolve
from .errors import ConfigError

Conv = partial(nnx.Conv, conv_general_dilated=convolve)
Stage = Callable[[jax.Array], jax.Array]  # a part of a network


class FCN(nnx.Module):
    """Two fully connected hidden layers of equal width (appendix A.4).

    The images are first average pooled by ``pool``, as in the paper behind the
    transformer on large canvases.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        num_classes: int,
        width: int,
        rngs: nnx.Rngs,
        pool: int = 1,
    ) -> None:
        *size, channels = image_shape
        self.pool = pool
        inputs = math.prod(n // pool for n in size) * channels
        self.hidden1 = nnx.Linear(inputs, width, rngs=rngs)
        self.hidden2 = nnx.Linear(width, width, rngs=rngs)
        self.logits = nnx.Linear(width, num_classes, rngs=rngs)

    def __call__(self, images: jax.Array, keys: jax.Array | None = None) -> jax.Array:
        """Map images ``(B, H, W, C)`` to logits ``(B, num_classes)``."""
        x = average_pool(images, self.pool).reshape(images.shape[0], -1)
        x = nnx.relu(self.hidden1(x))
        return self.logits(nnx.relu(self.hidden2(x)))


class LeanCNN(nnx.Module):
    """Two strided convolutions and two fully connected layers."""

    def __init__(
        self, image_shape: Sequence[int], num_classes: int, width: int, rngs: nnx.Rngs
    ) -> None:
        *size, channels = image_shape
        self.conv1 = Conv(channels, 32, (5, 5), strides=(2, 2), rngs=rngs)
        self.conv2 = Conv(32, 64, (3, 3), strides=(2, 2), rngs=rngs)
        cells = math.prod(math.ceil(n / 4) for n in size)
        self.dense = nnx.Linear(64 * cells, width, rngs=rngs)
        self.logits = nnx.Linear(width, num_classes, rngs=rngs)

    def __call__(self, images: jax.Array, keys: jax.Array | None = None) -> jax.Array:
        """Map images ``(B, H, W, C)`` to logits ``(B, num_classes)``."""
        x = images
        for stage in self.stages(keys):
            x = stage(x)
        return x

    def stages(self, keys: jax.Array | None = None) -> tuple[Stage, ...]:
        """Two convolutions and the fully connected layers, as functions."""
        return (
            lambda x: nnx.relu(self.conv1(x)),
            lambda x: nnx.relu(self.conv2(x)),
            lambda x: self.logits(nnx.relu(self.dense(x.reshape(x.shape[0], -1)))),
        )


class DeepCNN(nnx.Module):
    """Three convolutions and two fully connected layers.

    The first convolution is strided, the second max pooled. On large canvases, where
    more than 7x7 pixels are left, the third is max pooled too: fewer features leave
    parameters for wider fully connected layers.
    """

    def __init__(
        self, image_shape: Sequence[int], num_classes: int, width: int, rngs: nnx.Rngs
    ) -> None:
        *size, channels = image_shape
        self.conv1 = Conv(channels, 32, (5, 5), strides=(2, 2), rngs=rngs)
        self.conv2 = Conv(32, 32, (3, 3), rngs=rngs)
        self.conv3 = Conv(32, 64, (3, 3), rngs=rngs)
        size = [math.ceil(n / 2) // 2 for n in size]
        self.pool = 2 if min(size) > 7 else 1
        cells = math.prod(n // self.pool for n in size)
        self.dense = nnx.Linear(64 * cells, width, rngs=rngs)
        self.logits = nnx.Linear(width, num_classes, rngs=rngs)

    def __call__(self, images: jax.Array, keys: jax.Array | None = None) -> jax.Array:
        """Map images ``(B, H, W, C)`` to logits ``(B, num_classes)``."""
        x = nnx.relu(self.conv1(images))
        x = max_pool(nnx.relu(self.conv2(x)), 2)
        x = max_pool(nnx.relu(self.conv3(x)), self.pool)
        x = nnx.relu(self.dense(x.reshape(x.shape[0], -1)))
        return self.logits(x)


class PaperCNN(nnx.Module):
    """The paper's CNN: two wide convolutions, each max pooled, and a linear layer.

    The images are first average pooled by ``pool``, as in the paper behind the
    transformer on large canvases. A canvas of 42x42 is then large enough for the second
    convolution only if the max pooling keeps incomplete windows, as Caffe's does.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        num_classes: int,
        width: int,
        rngs: nnx.Rngs,
        pool: int = 1,
    ) -> None:
        *size, channels = image_shape
        self.pool = pool
        self.conv1 = Conv(channels, width, (9, 9), padding="VALID", rngs=rngs)
        self.conv2 = Conv(width, width, (7, 7), padding="VALID", rngs=rngs)
        size = [math.ceil((n // pool - 8) / 2) for n in size]
        size = [math.ceil((n - 6) / 2) for n in size]
        if min(size) < 1:
            raise ConfigError(
                f"images of {image_shape} are too small for the paper's convolutions; "
                "use --network lean"
            )
        self.logits = nnx.Linear(math.prod(size) * width, num_classes, rngs=rngs)

    def __call__(self, images: jax.Array, keys: jax.Array | None = None) -> jax.Array:
        """Map images ``(B, H, W, C)`` to logits ``(B, num_classes)``."""
        x = average_pool(images, self.pool)
        for conv in (self.conv1, self.conv2):
            x = max_pool(nnx.relu(conv(x)), 2, ceil_mode=True)
        return self.logits(x.reshape(x.shape[0], -1))


class Projection(nnx.Module):
    """A classifier of volumes that are summed along their depth (appendix A.3)."""

    def __init__(self, classifier: nnx.Module) -> None:
        self.classifier = classifier

    def __call__(self, volumes: jax.Array, keys: jax.Array | None = None) -> jax.Array:
        """Map volumes ``(B, D, H, W, C)`` to logits ``(B, num_classes)``."""
        return self.classifier(volumes.sum(axis=1), keys)


class TutorialCNN(nnx.Module):
    """The classifier of PyTorch's tutorial on spatial transformers."""

    def __init__(
        self, image_shape: Sequence[int], num_classes: int, rngs: nnx.Rngs
    ) -> None:
        *size, channels = image_shape
        conv = partial(Conv, kernel_size=(5, 5), padding="VALID", rngs=rngs)
        self.conv1 = conv(channels, 10, **uniform(25 * channels))
        self.conv2 = conv(10, 20, **uniform(250))
        inputs = 20 * math.prod(((n - 4) // 2 - 4) // 2 for n in size)
        self.dense = nnx.Linear(inputs, 50, rngs=rngs, **uniform(inputs))
        self.logits = nnx.Linear(50, num_classes, rngs=rngs, **uniform(50))

    def __call__(self, images: jax.Array, keys: jax.Array | None = None) -> jax.Array:
        """Map images ``(B, H, W, C)`` to logits ``(B, num_classes)``."""
        first, second = layer_keys(keys, 2)
        x = nnx.relu(max_pool(self.conv1(images), 2))
        x = dropout(self.conv2(x), first, shared=(0, 1))  # drops whole channels
        x = nnx.relu(max_pool(x, 2))
        x = nnx.relu(self.dense(x.reshape(x.shape[0], -1)))
        return self.logits(dropout(x, second))


def uniform(fan_in: int) -> dict[str, Any]:
    """PyTorch's initialization of a layer: uniform within 1 / sqrt(fan_in).

    Flax's default initial weights are larger.
    """
    bound = 1 / math.sqrt(fan_in)
    init = partial(jax.random.uniform, minval=-bound, maxval=bound)
    return {"kernel_init": init, "bias_init": init}


def layer_keys(keys: jax.Array | None, count: int) -> list[jax.Array | None]:
    """Keys ``(B,)`` of the images for each of ``count`` layers, or None for each."""
    if keys is None:
        return [None] * count
    split = partial(jax.random.split, num=count)
    return [*jax.vmap(split, out_axes=1)(keys)]


def dropout(
    x: jax.Array,
    keys: jax.Array | None,
    rate: float = 0.5,
    shared: Sequence[int] = (),
) -> jax.Array:
    """Drop this share of the entries of ``(B, ...)`` at random, with a key per image.

    Along the axes ``shared`` of an image the same ones are dropped. Without keys,
    return ``x`` unchanged.
    """
    if keys is None:
        return x
    drop = nnx.Dropout(rate, broadcast_dims=shared)

    def one(x: jax.Array, key: jax.Array) -> jax.Array:
        return drop(x, deterministic=False, rngs=nnx.Rngs(key))

    return jax.vmap(one)(x, keys)

"""The models: a classifier, alone or behind spatial transformers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from stn_jax.nnx import ConvLocalization, DenseLocalization, SpatialTransformer
from stn_jax.pooling import average_pool, max_pool
from stn_jax.transforms import Affine, Projective, ThinPlateSpline, Transform

from .classifiers import (
    FCN,
    DeepCNN,
    LeanCNN,
    PaperCNN,
    Projection,
    TutorialCNN,
    uniform,
)
from .configs import ConfigError, Model, Network
from .convolution import convolve

Localization = partial(ConvLocalization, conv_general_dilated=convolve)


class Look(NamedTuple):
    """Where a transformer looked in ``B`` images, and what it saw there."""

    params: jax.Array
    """``(B, P)``."""
    grid: jax.Array
    """``(B, *size, n)``, normalized."""
    seen: jax.Array
    """``(B, *size, C)``."""


class BoundedTransformer(SpatialTransformer):
    """One whose parameters stay within ``bound`` of the identity's, if it has one."""

    def __init__(self, *args: Any, bound: float | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.bound = bound

    def localize(self, images: jax.Array) -> jax.Array:
        """Identity + bound tanh((params - identity) / bound)."""
        params = super().localize(images)
        if self.bound is None:
            return params
        identity = self.transform.identity
        return identity + self.bound * jnp.tanh((params - identity) / self.bound)

    def look(self, images: jax.Array) -> Look:
        """Images ``(B, *size, C)``, looked at."""
        params = self.localize(images)
        size = self.size or images.shape[1:-1]
        grid = self.transform.grid(params, size, align_corners=self.align_corners)
        return Look(params, grid, self.warp(images, params))


class STN(nnx.Module):
    """Spatial transformers side by side, and a classifier of all that they see.

    Each sees all channels of the input; their outputs are concatenated along them.
    """

    def __init__(
        self, transformers: Sequence[BoundedTransformer], classifier: nnx.Module
    ) -> None:
        self.count = len(transformers)
        for index, transformer in enumerate(transformers):
            setattr(self, f"transformer{index}", transformer)
        self.classifier = classifier

    @property
    def transformers(self) -> tuple[BoundedTransformer, ...]:
        """In order."""
        return tuple(getattr(self, f"transformer{i}") for i in range(self.count))

    def look(
        self, images: jax.Array, key: jax.Array | None = None
    ) -> tuple[jax.Array, tuple[Look, ...]]:
        """Images ``(B, *size, C)`` to logits ``(B, num_classes)``, and the looks."""
        looks = tuple(transformer.look(images) for transformer in self.transformers)
        seen = jnp.concatenate([look.seen for look in looks], axis=-1)
        return self.classifier(seen, key), looks

    def __call__(self, images: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Images ``(B, *size, C)`` to logits ``(B, num_classes)``."""
        return self.look(images, key)[0]


class MultiSTCNN(nnx.Module):
    """The lean CNN with a transformer before each convolution, and one behind both: the
    second and the third read feature maps.
    """

    def __init__(
        self,
        first: BoundedTransformer,
        make: Callable[[Sequence[int]], BoundedTransformer],
        cnn: LeanCNN,
        size: Sequence[int],
    ) -> None:
        self.transformer0 = first
        half, quarter = ([math.ceil(n / k) for n in size] for k in (2, 4))
        self.transformer1 = make((*half, cnn.conv1.out_features))
        self.transformer2 = make((*quarter, cnn.conv2.out_features))
        self.classifier = cnn

    def look(
        self, images: jax.Array, key: jax.Array | None = None
    ) -> tuple[jax.Array, tuple[Look, ...]]:
        """Images ``(B, H, W, C)`` to logits ``(B, num_classes)``, and the looks."""
        first = self.transformer0.look(images)
        second = self.transformer1.look(nnx.relu(self.classifier.conv1(first.seen)))
        third = self.transformer2.look(nnx.relu(self.classifier.conv2(second.seen)))
        return self.classifier.classify(third.seen), (first, second, third)

    def __call__(self, images: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Images ``(B, H, W, C)`` to logits ``(B, num_classes)``."""
        return self.look(images, key)[0]


def look(
    model: nnx.Module, images: jax.Array, key: jax.Array | None = None
) -> tuple[jax.Array, tuple[Look, ...]]:
    """Any model's logits, and what its transformers looked at: none without them."""
    if isinstance(model, STN | MultiSTCNN):
        return model.look(images, key)
    return model(images, key), ()


def transformers_on_input(model: nnx.Module) -> tuple[BoundedTransformer, ...]:
    """The transformers that read the images themselves, not feature maps."""
    if isinstance(model, STN):
        return model.transformers
    return (model.transformer0,) if isinstance(model, MultiSTCNN) else ()


def size_seen(model: nnx.Module, canvas: Sequence[int]) -> tuple[int, ...]:
    """The size of what these see of a canvas; the canvas's where there are none."""
    for transformer in transformers_on_input(model):
        return transformer.size or tuple(canvas)
    return tuple(canvas)


def transform_of(model: Model, ndim: int = 2) -> Transform:
    """The family of a model's transformers."""
    return {
        "affine": Affine(ndim),
        "projective": Projective(ndim),
        "tps": ThinPlateSpline((4, 4)),
    }[model.partition("-")[2]]


def build(
    model: Model,
    network: Network,
    *,
    canvas: Sequence[int],
    size: Sequence[int],
    num_classes: int,
    parameters: int,
    bound: float | None = None,
    seed: int,
) -> nnx.Module:
    """The widest such model that has at most ``parameters`` parameters.

    Args:
      model: as in the configuration.
      network: likewise.
      canvas: shape ``(H, W, C)`` of the images it sees, ``(D, H, W, C)`` of volumes.
      size: ``(height, width)`` of the images before they were placed on the canvas.
      num_classes: of the labels.
      parameters: the budget.
      bound: of the transformations, see :class:`BoundedTransformer`.
      seed: of the weights.
    """
    if len(canvas) > 3 and network != "lean":
        raise ConfigError("of volumes there is a lean network alone: --network lean")
    if network == "tutorial":
        if model not in ("cnn", "st_cnn-affine"):
            raise ConfigError(f"the tutorial has no {model}: cnn or st_cnn-affine")
        return _tutorial(model, canvas, num_classes, bound, nnx.Rngs(seed))

    def make(width: int) -> nnx.Module:
        rngs = nnx.Rngs(seed)
        if "st_" not in model:
            pool = _halving(canvas) if "fcn" in model and network != "paper" else 1
            return _classifier(model, network, canvas, num_classes, width, pool, rngs)
        count = 2 if model.startswith("2x") else 1
        patch = _patch(model, network, canvas, size)
        pool = 2 if network == "paper" and patch != tuple(size) else 1
        seen = (*patch, count * canvas[-1])
        transformers = [
            _transformer(model, network, canvas, patch, bound, rngs)
            for _ in range(count)
        ]
        classifier = _classifier(model, network, seen, num_classes, width, pool, rngs)
        if not model.startswith("multi"):
            return STN(transformers, classifier)
        if not isinstance(classifier, LeanCNN):
            raise ConfigError(f"{model} is a lean network alone: --network lean")
        small = partial(_on_features, model, bound=bound, rngs=rngs)
        return MultiSTCNN(transformers[0], small, classifier, patch)

    return make(_widest(make, parameters))


def _patch(
    model: Model, network: Network, canvas: Sequence[int], size: Sequence[int]
) -> tuple[int, ...]:
    """The size of what each of the model's transformers sees."""
    if network == "paper":
        return tuple(canvas[:-1])
    if len(canvas) > 3:  # as large as the solid is there
        return (canvas[0] * 7 // 15,) * 3
    if "fcn" in model:  # wider layers behind fewer pixels learn more
        largest = 12 if model.startswith("2x") else 20
        return tuple(min(n, largest) for n in size)
    return tuple(size)


def _halving(canvas: Sequence[int]) -> int:
    """By how much fully connected layers average a large canvas down: 2, or 1."""
    return 1 if min(canvas[:-1]) <= 28 else 2


def _classifier(
    model: Model,
    network: Network,
    shape: Sequence[int],
    num_classes: int,
    width: int,
    pool: int,
    rngs: nnx.Rngs,
) -> nnx.Module:
    if len(shape) > 3:  # a volume
        inner = _classifier(model, network, shape[1:], num_classes, width, pool, rngs)
        return Projection(inner)
    if "fcn" in model:
        return FCN(shape, num_classes, width, rngs, pool)
    if network == "paper":
        return PaperCNN(shape, num_classes, width, rngs, pool)
    cnn = DeepCNN if network == "deep" else LeanCNN
    return cnn(shape, num_classes, width, rngs)


def _transformer(
    model: Model,
    network: Network,
    canvas: Sequence[int],
    patch: Sequence[int],
    bound: float | None,
    rngs: nnx.Rngs,
) -> BoundedTransformer:
    """Lean: it localizes at about 14x14, fully connected at up to 28x28."""
    if network == "paper":
        kind = DenseLocalization if "fcn" in model else Localization
        localization = kind(canvas, rngs=rngs)
    elif "fcn" in model:
        localization = _LeanDense(canvas, rngs)
    else:
        volume = len(canvas) > 3
        localization = Localization(
            canvas,
            channels=(8, 16) if volume else (20, 40),
            hidden=64 if volume else 128,
            downsample=max(min(canvas[:-1]) // (15 if volume else 14), 1),
            rngs=rngs,
        )
    return BoundedTransformer(
        localization,
        transform_of(model, len(canvas) - 1),
        patch,
        features=localization.features,
        bound=bound,
        rngs=rngs,
    )


class _LeanDense(nnx.Module):
    """Fully connected, at half the resolution where the canvas is large."""

    def __init__(self, canvas: Sequence[int], rngs: nnx.Rngs) -> None:
        *size, channels = canvas
        self.downsample = _halving(canvas)
        small = (*(n // self.downsample for n in size), channels)
        self.dense = DenseLocalization(small, hidden=(128, 64, 32), rngs=rngs)
        self.features = self.dense.features

    def __call__(self, images: jax.Array) -> jax.Array:
        return self.dense(average_pool(images, self.downsample))


def _on_features(
    model: Model, shape: Sequence[int], *, bound: float | None, rngs: nnx.Rngs
) -> BoundedTransformer:
    localization = Localization(
        shape,
        channels=(16,),
        hidden=32,
        downsample=max(min(shape[:2]) // 7, 1),
        rngs=rngs,
    )
    return BoundedTransformer(
        localization, transform_of(model), features=32, bound=bound, rngs=rngs
    )


def _tutorial(
    model: Model,
    canvas: Sequence[int],
    num_classes: int,
    bound: float | None,
    rngs: nnx.Rngs,
) -> nnx.Module:
    classifier = TutorialCNN(canvas, num_classes, rngs)
    if model == "cnn":
        return classifier
    localization = TutorialLocalization(canvas, rngs)
    transformer = BoundedTransformer(
        localization, Affine(), features=32, bound=bound, rngs=rngs
    )
    return STN([transformer], classifier)


class TutorialLocalization(nnx.Module):
    """That of the PyTorch tutorial."""

    def __init__(self, image_shape: Sequence[int], rngs: nnx.Rngs) -> None:
        conv = partial(nnx.Conv, padding="VALID", conv_general_dilated=convolve)
        *size, channels = image_shape
        self.conv1 = conv(channels, 8, (7, 7), rngs=rngs, **uniform(49 * channels))
        self.conv2 = conv(8, 10, (5, 5), rngs=rngs, **uniform(200))
        inputs = 10 * math.prod(((n - 6) // 2 - 4) // 2 for n in size)
        self.dense = nnx.Linear(inputs, 32, rngs=rngs, **uniform(inputs))

    def __call__(self, images: jax.Array) -> jax.Array:
        """Images ``(B, H, W, C)`` to features ``(B, 32)``."""
        x = images
        for conv in (self.conv1, self.conv2):
            x = nnx.relu(max_pool(conv(x), 2))
        return nnx.relu(self.dense(x.reshape(len(x), -1)))


def count_parameters(model: nnx.Module) -> int:
    """How many numbers the model learns."""
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))


def _widest(make: Callable[[int], nnx.Module], parameters: int) -> int:
    """The largest width within the budget, from shapes alone.

    No layer has more inputs and outputs than the width each way, so that the number of
    parameters is a polynomial of degree two in it: three widths tell the rest.
    """
    one, two, three = (
        count_parameters(nnx.eval_shape(lambda width=width: make(width)))
        for width in (1, 2, 3)
    )
    if one > parameters:
        raise ConfigError(
            f"--parameters {parameters} is too few: this model has {one} at least"
        )
    slope, curvature = two - one, three - 2 * two + one
    width = 1
    while one + width * slope + width * (width - 1) // 2 * curvature <= parameters:
        width += 1
    return width

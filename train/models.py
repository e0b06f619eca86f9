"""The networks of section 4.1, and leaner ones that a CPU trains in minutes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import jax
from flax import nnx

from stn_jax.nnx import ConvLocalization, SpatialTransformer
from stn_jax.transforms import Affine, ThinPlateSpline, Transform

from .configs import ConfigError, Model, Network
from .convolution import convolve

Conv = partial(nnx.Conv, conv_general_dilated=convolve)
Localization = partial(ConvLocalization, conv_general_dilated=convolve)

TRANSFORMS: dict[Model, Transform] = {
    "st_cnn-affine": Affine(),
    "st_cnn-tps": ThinPlateSpline((4, 4)),
}


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

    def __call__(self, images: jax.Array) -> jax.Array:
        """Images ``(B, H, W, C)`` to logits ``(B, num_classes)``."""
        x = nnx.relu(self.conv1(images))
        x = nnx.relu(self.conv2(x))
        x = nnx.relu(self.dense(x.reshape(len(x), -1)))
        return self.logits(x)


class PaperCNN(nnx.Module):
    """The paper's: two wide convolutions, each with a pooling, and one layer on top.

    ``pool`` averages the images down first, as the paper does behind the transformer
    where the canvas is large. What then is left of 42x42 only suffices for the second
    convolution if the poolings keep their last, incomplete windows, as Caffe's do.
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

    def __call__(self, images: jax.Array) -> jax.Array:
        """Images ``(B, H, W, C)`` to logits ``(B, num_classes)``."""
        x = nnx.avg_pool(images, (self.pool,) * 2, (self.pool,) * 2)
        for conv in (self.conv1, self.conv2):
            x = nnx.max_pool(nnx.relu(conv(x)), (2, 2), (2, 2), padding="SAME")
        return self.logits(x.reshape(len(x), -1))


class STCNN(nnx.Module):
    """A spatial transformer on the input, and a CNN that sees what it looks at."""

    def __init__(
        self,
        transformer: SpatialTransformer,
        classifier: Callable[[jax.Array], jax.Array],
    ) -> None:
        self.transformer = transformer
        self.classifier = classifier

    def __call__(self, images: jax.Array) -> jax.Array:
        """Images ``(B, H, W, C)`` to logits ``(B, num_classes)``."""
        return self.classifier(self.transformer(images))


def build(
    model: Model,
    network: Network,
    *,
    canvas: Sequence[int],
    size: Sequence[int],
    num_classes: int,
    parameters: int,
    seed: int,
) -> nnx.Module:
    """The widest such model that has at most ``parameters`` parameters.

    Args:
      model: as in the configuration.
      network: likewise.
      canvas: shape ``(H, W, C)`` of the images it sees.
      size: ``(height, width)`` of the images before they were placed on the canvas.
      num_classes: of the labels.
      parameters: the budget.
      seed: of the weights.
    """

    def make(width: int) -> nnx.Module:
        rngs = nnx.Rngs(seed)
        cnn = LeanCNN if network == "lean" else PaperCNN
        if model == "cnn":
            return cnn(canvas, num_classes, width, rngs)
        transformer = _transformer(model, network, canvas, size, rngs)
        if network == "lean":
            seen = (*size, canvas[-1])
            return STCNN(transformer, LeanCNN(seen, num_classes, width, rngs))
        pool = 1 if tuple(canvas[:2]) == tuple(size) else 2
        return STCNN(transformer, PaperCNN(canvas, num_classes, width, rngs, pool))

    return make(_widest(make, parameters))


def _transformer(
    model: Model,
    network: Network,
    canvas: Sequence[int],
    size: Sequence[int],
    rngs: nnx.Rngs,
) -> SpatialTransformer:
    """Lean: it localizes at about 14x14 and looks at a patch of the original size."""
    if network == "paper":
        localization, patch = Localization(canvas, rngs=rngs), None
    else:
        downsample = max(min(canvas[:2]) // 14, 1)
        localization, patch = _lean_localization(canvas, downsample, rngs), size
    return SpatialTransformer(
        localization,
        TRANSFORMS[model],
        patch,
        features=localization.features,
        rngs=rngs,
    )


def _lean_localization(
    canvas: Sequence[int], downsample: int, rngs: nnx.Rngs
) -> ConvLocalization:
    return Localization(
        canvas, channels=(20, 40), hidden=128, downsample=downsample, rngs=rngs
    )


def count_parameters(model: nnx.Module) -> int:
    """How many numbers the model learns."""
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))


def _widest(make: Callable[[int], nnx.Module], parameters: int) -> int:
    """The largest width within the budget, by bisection on shapes alone."""

    def fits(width: int) -> bool:
        return count_parameters(nnx.eval_shape(lambda: make(width))) <= parameters

    if not fits(1):
        least = count_parameters(nnx.eval_shape(lambda: make(1)))
        raise ConfigError(
            f"--parameters {parameters} is too few: this model has {least} at least"
        )
    low, high = 1, 2
    while fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low

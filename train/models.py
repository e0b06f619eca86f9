"""Models: a classifier, alone or behind spatial transformers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from stn_jax.nnx import ConvLocalization, DenseLocalization
from stn_jax.pooling import average_pool, max_pool
from stn_jax.transforms import Affine, Attention, Projective, ThinPlateSpline, Transform

from .classifiers import (
    FCN,
    DeepCNN,
    LeanCNN,
    PaperCNN,
    Projection,
    TutorialCNN,
    uniform,
)
from .configs import Network, Precision
from .convolution import convolve
from .errors import ConfigError
from .number_networks import for_numbers
from .specs import ModelSpec
from .transformers import STN, BoundedTransformer, MultiSTCNN, input_shapes
from .window_networks import SCALE, with_windows

Localization = partial(ConvLocalization, conv_general_dilated=convolve)


def transform_of(spec: ModelSpec, ndim: int = 2) -> Transform:
    """The transformation family of a model's transformers."""
    if spec.transform == "affine":
        return Affine(ndim)
    if spec.transform == "projective":
        return Projective(ndim)
    if spec.transform == "attention":
        return Attention(ndim, scale=SCALE)
    return ThinPlateSpline((4, 4))


def build(
    spec: ModelSpec,
    network: Network,
    *,
    canvas: Sequence[int],
    size: Sequence[int],
    num_classes: int,
    places: int | None = None,
    parameters: int,
    bound: float | None = None,
    seed: int,
) -> nnx.Module:
    """Build a model; the widest with at most ``parameters`` parameters, if that varies.

    Args:
      spec: the classifier and its transformers.
      network: the layers, as in the configuration.
      canvas: shape ``(H, W, C)`` of the input images, ``(D, H, W, C)`` of volumes.
      size: ``(height, width)`` of the digits before they were placed on the canvas.
      num_classes: the number of classes.
      places: classes to predict for each image, as for a house number; None for one.
      parameters: the largest number of parameters.
      bound: limit of the transformations; see :class:`BoundedTransformer`.
      seed: of the initial weights.
    """
    if len(canvas) > 3 and network != "lean":
        raise ConfigError("volumes need the lean network: --network lean")
    lean, rngs = network.endswith("_lean"), nnx.Rngs(seed)
    if network in ("svhn", "svhn_lean"):
        return for_numbers(spec, canvas, num_classes, places, lean, bound, rngs)
    if places is not None:
        raise ConfigError(
            f"--network {network} predicts one class for an image; for labels of "
            f"{places} places, such as house numbers, use svhn or svhn_lean"
        )
    if network == "tutorial":
        return _tutorial(spec, canvas, num_classes, bound, rngs)
    if network in ("cub", "cub_lean"):
        if bound is not None:
            raise ConfigError(
                "--bound does not go with windows, which have no identity"
            )
        return with_windows(spec, canvas, num_classes, lean, rngs)
    if spec.transform == "attention":
        raise ConfigError(f"{spec.name} needs --network cub or cub_lean")

    make = partial(_of_width, spec, network, canvas, size, num_classes, bound, seed)
    return make(_widest(make, parameters))


def _of_width(
    spec: ModelSpec,
    network: Network,
    canvas: Sequence[int],
    size: Sequence[int],
    num_classes: int,
    bound: float | None,
    seed: int,
    width: int,
) -> nnx.Module:
    """A model of section 4.1 whose classifier has a width."""
    rngs = nnx.Rngs(seed)
    if spec.transform is None:
        is_pooled = spec.classifier == "fcn" and network != "paper"
        pool = _halving(canvas) if is_pooled else 1
        return _classifier(spec, network, canvas, num_classes, width, pool, rngs)
    patch = _patch(spec, network, canvas, size)
    pool = 2 if network == "paper" and patch != tuple(size) else 1
    warped = (*patch, spec.transformers * canvas[-1])
    transformers = [
        _transformer(spec, network, canvas, patch, bound, rngs)
        for _ in range(spec.transformers)
    ]
    classifier = _classifier(spec, network, warped, num_classes, width, pool, rngs)
    if not spec.on_features:
        return STN(transformers, classifier)
    if not isinstance(classifier, LeanCNN):
        raise ConfigError(f"{spec.name} needs the lean network: --network lean")
    for maps in input_shapes(classifier.stages(), warped)[1:]:
        transformers.append(_on_features(spec, maps, bound=bound, rngs=rngs))
    return MultiSTCNN(transformers, classifier)


def _patch(
    spec: ModelSpec, network: Network, canvas: Sequence[int], size: Sequence[int]
) -> tuple[int, ...]:
    """The size of each transformer's output."""
    if network == "paper":
        return tuple(canvas[:-1])
    if len(canvas) > 3:  # the size of the solid
        return (canvas[0] * 7 // 15,) * 3
    if spec.classifier == "fcn":  # fewer pixels leave parameters for wider layers
        largest = 12 if spec.transformers > 1 else 20
        return tuple(min(n, largest) for n in size)
    return tuple(size)


def _halving(canvas: Sequence[int]) -> int:
    """The factor by which images are pooled before fully connected layers: 1 or 2."""
    return 1 if min(canvas[:-1]) <= 28 else 2


def _classifier(
    spec: ModelSpec,
    network: Network,
    shape: Sequence[int],
    num_classes: int,
    width: int,
    pool: int,
    rngs: nnx.Rngs,
) -> nnx.Module:
    if len(shape) > 3:  # a volume
        inner = _classifier(spec, network, shape[1:], num_classes, width, pool, rngs)
        return Projection(inner)
    if spec.classifier == "fcn":
        return FCN(shape, num_classes, width, rngs, pool)
    if network == "paper":
        return PaperCNN(shape, num_classes, width, rngs, pool)
    cnn = DeepCNN if network == "deep" else LeanCNN
    return cnn(shape, num_classes, width, rngs)


def _transformer(
    spec: ModelSpec,
    network: Network,
    canvas: Sequence[int],
    patch: Sequence[int],
    bound: float | None,
    rngs: nnx.Rngs,
) -> BoundedTransformer:
    """A transformer of the input.

    The lean CNN's localization network works at about 14x14 pixels, the lean fully
    connected one at up to 28x28.
    """
    is_fcn = spec.classifier == "fcn"
    if network == "paper":
        kind = DenseLocalization if is_fcn else Localization
        localization = kind(canvas, rngs=rngs)
    elif is_fcn:
        localization = _LeanDense(canvas, rngs)
    else:
        is_volume = len(canvas) > 3
        localization = Localization(
            canvas,
            channels=(8, 16) if is_volume else (20, 40),
            hidden=64 if is_volume else 128,
            downsample=max(min(canvas[:-1]) // (15 if is_volume else 14), 1),
            rngs=rngs,
        )
    return BoundedTransformer(
        localization,
        transform_of(spec, len(canvas) - 1),
        patch,
        features=localization.features,
        bound=bound,
        rngs=rngs,
    )


class _LeanDense(nnx.Module):
    """Fully connected localization network, at half the resolution of large images."""

    def __init__(self, canvas: Sequence[int], rngs: nnx.Rngs) -> None:
        *size, channels = canvas
        self.downsample = _halving(canvas)
        small = (*(n // self.downsample for n in size), channels)
        self.dense = DenseLocalization(small, hidden=(128, 64, 32), rngs=rngs)
        self.features = self.dense.features

    def __call__(self, images: jax.Array) -> jax.Array:
        return self.dense(average_pool(images, self.downsample))


def _on_features(
    spec: ModelSpec, shape: Sequence[int], *, bound: float | None, rngs: nnx.Rngs
) -> BoundedTransformer:
    localization = Localization(
        shape,
        channels=(16,),
        hidden=32,
        downsample=max(min(shape[:2]) // 7, 1),
        rngs=rngs,
    )
    return BoundedTransformer(
        localization, transform_of(spec), features=32, bound=bound, rngs=rngs
    )


def _tutorial(
    spec: ModelSpec,
    canvas: Sequence[int],
    num_classes: int,
    bound: float | None,
    rngs: nnx.Rngs,
) -> nnx.Module:
    if spec not in (ModelSpec("cnn"), ModelSpec("cnn", "affine", 1)):
        raise ConfigError(f"the tutorial has no {spec.name}: cnn or st_cnn-affine")
    if min(canvas[:-1]) < 18:  # the localization network's last layer would be empty
        size = "x".join(map(str, canvas[:-1]))
        raise ConfigError(
            f"the tutorial's network needs images of 18x18 pixels or more; got {size}"
        )
    classifier = TutorialCNN(canvas, num_classes, rngs)
    if spec.transform is None:
        return classifier
    localization = TutorialLocalization(canvas, rngs)
    transformer = BoundedTransformer(
        localization, Affine(), features=32, bound=bound, rngs=rngs
    )
    return STN([transformer], classifier)


class TutorialLocalization(nnx.Module):
    """The localization network of PyTorch's tutorial on spatial transformers."""

    def __init__(self, image_shape: Sequence[int], rngs: nnx.Rngs) -> None:
        conv = partial(nnx.Conv, padding="VALID", conv_general_dilated=convolve)
        *size, channels = image_shape
        self.conv1 = conv(channels, 8, (7, 7), rngs=rngs, **uniform(49 * channels))
        self.conv2 = conv(8, 10, (5, 5), rngs=rngs, **uniform(200))
        inputs = 10 * math.prod(((n - 6) // 2 - 4) // 2 for n in size)
        self.dense = nnx.Linear(inputs, 32, rngs=rngs, **uniform(inputs))

    def __call__(self, images: jax.Array) -> jax.Array:
        """Map images ``(B, H, W, C)`` to features ``(B, 32)``."""
        x = images
        for conv in (self.conv1, self.conv2):
            x = nnx.relu(max_pool(conv(x), 2))
        return nnx.relu(self.dense(x.reshape(x.shape[0], -1)))


def with_precision(model: nnx.Module, precision: Precision) -> nnx.Module:
    """Have all layers compute in a precision, but for those that predict parameters."""
    if precision == "bfloat16":
        for path, layer in nnx.iter_graph(model):
            if isinstance(layer, nnx.Conv | nnx.Linear) and path[-1] != "regression":
                layer.dtype = jnp.bfloat16
    return model


def count_parameters(model: nnx.Module) -> int:
    """The number of trainable parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))


def _widest(make: Callable[[int], nnx.Module], parameters: int) -> int:
    """The largest width with at most ``parameters`` parameters, from shapes alone.

    Each layer's inputs and outputs grow at most linearly with the width. The number of
    parameters is therefore a quadratic polynomial of it, which three widths determine.
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

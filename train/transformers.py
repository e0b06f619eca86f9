"""Models with spatial transformers: what these see, warp, and hand to a classifier.

Each maps images ``(B, *size, C)`` to logits, and ``outputs`` returns with the logits
what its transformers did. In training it also takes a key per image, for dropout.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from stn_jax.nnx import ParallelSpatialTransformers, SpatialTransformer

from .classifiers import Stage


class TransformerOutput(NamedTuple):
    """The output of a spatial transformer for ``B`` images."""

    params: jax.Array
    """The transformation's parameters, ``(B, P)``."""
    grid: jax.Array
    """The sampling grid, normalized, ``(B, *size, n)``."""
    warped: jax.Array
    """The images sampled there, ``(B, *size, C)``."""


Outputs = tuple[TransformerOutput, ...]


class Observed(SpatialTransformer):
    """A spatial transformer that returns its parameters and its grid as well."""

    def output(self, images: jax.Array) -> TransformerOutput:
        """Warp images ``(B, *size, C)``. Windows, if any, are axis 1 of all results."""
        params = self.localize(images)
        size = self.size or images.shape[1:-1]
        grid = self.transform.grid(params, size, align_corners=self.align_corners)
        return TransformerOutput(params, grid, self.warp(images, params))


class BoundedTransformer(Observed):
    """A spatial transformer whose parameters stay near the identity's.

    With a ``bound`` they are ``identity + bound tanh((params - identity) / bound)``;
    with ``bound=None`` they are not limited.
    """

    def __init__(self, *args: Any, bound: float | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.bound = bound

    def localize(self, images: jax.Array, **kwargs: Any) -> jax.Array:
        """Predict the parameters ``(B, P)``."""
        params = super().localize(images, **kwargs)
        if self.bound is None:
            return params
        identity = self.transform.identity
        return identity + self.bound * jnp.tanh((params - identity) / self.bound)


class Windows(Observed, ParallelSpatialTransformers):
    """Several transformers of the same image, with one localization network."""


class STN(nnx.Module):
    """A classifier behind one or more spatial transformers of the same image.

    The transformers' outputs are concatenated along the channels.
    """

    def __init__(
        self, transformers: Sequence[BoundedTransformer], classifier: Any
    ) -> None:
        self.count = len(transformers)
        for index, transformer in enumerate(transformers):
            setattr(self, f"transformer{index}", transformer)
        self.classifier = classifier

    @property
    def transformers(self) -> tuple[BoundedTransformer, ...]:
        """The transformers, in the order in which they were given."""
        return tuple(getattr(self, f"transformer{i}") for i in range(self.count))

    def outputs(
        self, images: jax.Array, keys: jax.Array | None = None
    ) -> tuple[jax.Array, Outputs]:
        """Map images ``(B, *size, C)`` to logits and the transformers' outputs."""
        outputs = tuple(transformer.output(images) for transformer in self.transformers)
        warped = jnp.concatenate([output.warped for output in outputs], axis=-1)
        return self.classifier(warped, keys), outputs

    def localize(self, images: jax.Array) -> jax.Array:
        """The parameters of all transformers for the images: ``(K, B, P)``."""
        return jnp.stack([one.localize(images) for one in self.transformers])

    def __call__(self, images: jax.Array, keys: jax.Array | None = None) -> jax.Array:
        """Map images ``(B, *size, C)`` to logits."""
        return self.outputs(images, keys)[0]


class MultiSTCNN(STN):
    """A CNN with a transformer before each of its first stages.

    The first transformer samples the image, the others sample feature maps. The CNN has
    a method ``stages``, which returns its parts as functions.
    """

    def outputs(
        self, images: jax.Array, keys: jax.Array | None = None
    ) -> tuple[jax.Array, Outputs]:
        """Map images ``(B, H, W, C)`` to logits and the transformers' outputs."""
        stages = self.classifier.stages(keys)
        x, outputs = images, []
        for transformer, stage in zip(self.transformers, stages, strict=False):
            outputs.append(transformer.output(x))
            x = stage(outputs[-1].warped)
        for stage in stages[self.count :]:
            x = stage(x)
        return x, tuple(outputs)

    def localize(self, images: jax.Array) -> jax.Array:
        """The parameters of the first transformer: ``(1, B, P)``."""
        return self.transformers[0].localize(images)[None]


def input_shapes(
    stages: Sequence[Stage], image_shape: Sequence[int]
) -> list[tuple[int, ...]]:
    """The shapes of the stages' inputs, ``(H, W, C)``; the first are the images."""
    shapes = [tuple(image_shape)]
    for stage in stages[:-1]:
        maps = jax.ShapeDtypeStruct((1, *shapes[-1]), jnp.float32)
        shapes.append(jax.eval_shape(stage, maps).shape[1:])
    return shapes


class WindowSTN(nnx.Module):
    """Windows of the image, each with a network of its own (section 4.3).

    The networks' features are concatenated and classified together.

    Args:
      windows: the transformers of the image, with one localization network.
      networks: from the images of a window ``(B, *size, C)`` to features ``(B, F)``.
      classifier: from the features of all windows ``(B, n F)`` to logits.
    """

    def __init__(
        self,
        windows: Windows,
        networks: Sequence[nnx.Module],
        classifier: nnx.Module,
    ) -> None:
        self.transformer = windows
        for index, network in enumerate(networks):
            setattr(self, f"network{index}", network)
        self.classifier = classifier

    def outputs(
        self, images: jax.Array, keys: jax.Array | None = None
    ) -> tuple[jax.Array, Outputs]:
        """Map images ``(B, H, W, C)`` to logits and the windows' outputs."""
        of_all = self.transformer.output(images)
        outputs = tuple(
            TransformerOutput(*(x[:, index] for x in of_all))
            for index in range(self.transformer.count)
        )
        features = [
            getattr(self, f"network{index}")(output.warped)
            for index, output in enumerate(outputs)
        ]
        return self.classifier(jnp.concatenate(features, axis=-1), keys), outputs

    def localize(self, images: jax.Array) -> jax.Array:
        """The parameters of all windows for the images: ``(n, B, P)``."""
        return jnp.moveaxis(self.transformer.localize(images), 1, 0)

    def __call__(self, images: jax.Array, keys: jax.Array | None = None) -> jax.Array:
        """Map images ``(B, H, W, C)`` to logits ``(B, num_classes)``."""
        return self.outputs(images, keys)[0]


def logits_and_outputs(
    model: nnx.Module, images: jax.Array, keys: jax.Array | None = None
) -> tuple[jax.Array, Outputs]:
    """Any model's logits and the outputs of its transformers, if it has some."""
    if isinstance(model, STN | WindowSTN):
        return model.outputs(images, keys)
    return model(images, keys), ()


def localize_images(model: nnx.Module, images: jax.Array) -> jax.Array:
    """The parameters of the transformers that sample the images: ``(K, B, P)``."""
    if isinstance(model, STN | WindowSTN):
        return model.localize(images)
    return jnp.zeros((0, len(images), 0))


def warped_size(model: nnx.Module, canvas: Sequence[int]) -> tuple[int, ...]:
    """The size of these transformers' outputs; the canvas's without transformers."""
    if isinstance(model, WindowSTN):
        return model.transformer.size or tuple(canvas)
    if isinstance(model, STN):
        return model.transformers[0].size or tuple(canvas)
    return tuple(canvas)

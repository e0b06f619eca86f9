"""Spatial transformers as Flax NNX modules."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Unpack

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.typing import ArrayLike

from ._checks import (
    as_count,
    as_size,
    as_starts,
    as_transform,
    check_conv_size,
    check_features,
    check_images,
)
from ._types import Image, Params, Size
from .pooling import average_pool, max_pool
from .sampling import Kernel, Sampler
from .sampling.sampler import OPTIONS, SamplerOptions
from .transforms import Affine, Transform
from .warping import as_sampler, warp


class SpatialTransformer(nnx.Module):
    """A spatial transformer: section 3 of Jaderberg et al. (2015).

    ``localization`` maps images to features. A linear layer, which the transformer
    owns, maps the features to the parameters of ``transform``. The images are then
    sampled on the grid that the parameters describe. The layer starts with zero weights
    and the identity as its bias, so that an untrained transformer returns its images.

    Args:
      localization: any callable (a module, to be trained along) from images ``(B, H, W,
        C)`` to features ``(B, features)``.
      transform: the family of transformations, from :mod:`stn_jax.transforms`.
      size: of the output, ``(height, width)``; that of the images when None.
      features: the number of features that ``localization`` returns.
      sampler: the :class:`~stn_jax.Sampler`.
      antialias, supersample: as in :func:`~stn_jax.warp`.
      rngs: Flax's random streams.
      options: those of a :class:`~stn_jax.Sampler`, instead of ``sampler``.

    Raises:
      TypeError: an unknown option; ``sampler`` together with options; a ``transform``
        that is no family.
      ValueError: options that the sampler refuses.

    Volumes ``(B, D, H, W, C)`` are transformed by ``Affine(ndim=3)`` and the like.

    >>> net = DenseLocalization((28, 28, 1), rngs=nnx.Rngs(0))
    >>> st = SpatialTransformer(net, Affine(), features=net.features, rngs=nnx.Rngs(1))
    >>> images = jnp.ones((2, 28, 28, 1))
    >>> st.localize(images)[0]  # flat parameters: the identity
    Array([1., 0., 0., 0., 1., 0.], dtype=float32)
    >>> bool(jnp.allclose(st(images), images, atol=1e-5))
    True
    """

    # the sampler's options one by one, since NNX refuses a frozen pytree with an array
    method: str | Kernel
    padding_mode: str | Sequence[str]
    fill_value: ArrayLike | Sequence[ArrayLike]
    align_corners: bool
    coordinates: str
    outside: str
    implementation: str | None

    def __init__(
        self,
        localization: Callable[..., jax.Array],
        transform: Transform = Affine(),
        size: Size | None = None,
        *,
        features: int,
        sampler: Sampler | None = None,
        antialias: bool = False,
        supersample: int = 1,
        rngs: nnx.Rngs,
        **options: Unpack[SamplerOptions],
    ) -> None:
        self.localization = localization
        self.transform = as_transform(transform)
        self.size = None if size is None else as_size(size)
        self.antialias = antialias
        self.supersample = as_count(supersample, "supersample")
        sampler = as_sampler(sampler, options)
        for name in OPTIONS:
            setattr(self, name, getattr(sampler, name))
        self.regression = _regression(features, transform.identity, rngs)

    @property
    def sampler(self) -> Sampler:
        """The sampler of the images."""
        return Sampler(**{name: getattr(self, name) for name in OPTIONS})

    def localize(self, images: jax.Array, **kwargs: Any) -> jax.Array:
        """The flat parameters of each image's transformation: ``(B, P)``.

        Further keywords go to the localization network.
        """
        check_images(images, getattr(self.transform, "ndim", 2))
        features = self.localization(images, **kwargs)
        check_features(features, images, self.regression.in_features)
        return self.regression(features)

    def warp(self, images: Image, params: Params) -> jax.Array:
        """Sample images ``(B, H, W, C)`` as ``params``, ``(B, P)``, describe.

        The result is ``(B, *size, C)``. The parameters may come from elsewhere: from
        another layer, or from the same images at another resolution.
        """
        images = jnp.asarray(images)
        check_images(images, getattr(self.transform, "ndim", 2))
        return self._warp(images, params, self.size or images.shape[1:-1])

    def _warp(self, images: jax.Array, params: Params, size: Size) -> jax.Array:
        return warp(
            images,
            self.transform,
            params,
            size,
            sampler=self.sampler,
            antialias=self.antialias,
            supersample=self.supersample,
        )

    def __call__(self, images: jax.Array, **kwargs: Any) -> jax.Array:
        """Images ``(B, H, W, C)`` to transformed images, as :meth:`warp` returns them.

        Further keywords go to the localization network.
        """
        return self.warp(images, self.localize(images, **kwargs))


class ParallelSpatialTransformers(SpatialTransformer):
    """n transformers of the same images, side by side: section 4.3 of Jaderberg et al.

    One localization network and one linear layer predict the parameters of all. Each
    transformer samples the same images, which are not copied. Feature maps are images
    too, with as many channels as features.

    Args:
      localization: as in :class:`SpatialTransformer`.
      transform: the family of all transformations.
      start: the parameters ``(n, P)`` where the n transformers start, for instance
        :func:`~stn_jax.transforms.tiles`. Transformers with equal starts stay equal:
        they get equal gradients unless what follows treats them differently.
      size: of each output.
      features: the number of features that ``localization`` returns.
      concatenate: put the outputs side by side along the channels, instead of on an
        axis of their own.
      sampler, antialias, supersample, rngs, options: as in
        :class:`SpatialTransformer`.

    Raises:
      TypeError, ValueError: as :class:`SpatialTransformer`; ``start`` of another shape.

    >>> from stn_jax.transforms import Attention, tiles
    >>> net = DenseLocalization((28, 28, 1), rngs=nnx.Rngs(0))
    >>> halves = tiles(Attention(scale=0.5), (1, 2))  # as for birds in the paper
    >>> st = ParallelSpatialTransformers(
    ...     net,
    ...     Attention(scale=0.5),
    ...     halves,
    ...     (14, 14),
    ...     features=net.features,
    ...     rngs=nnx.Rngs(1),
    ... )
    >>> st(jnp.ones((8, 28, 28, 1))).shape
    (8, 2, 14, 14, 1)
    """

    def __init__(
        self,
        localization: Callable[..., jax.Array],
        transform: Transform,
        start: ArrayLike,
        size: Size | None = None,
        *,
        features: int,
        concatenate: bool = False,
        sampler: Sampler | None = None,
        antialias: bool = False,
        supersample: int = 1,
        rngs: nnx.Rngs,
        **options: Unpack[SamplerOptions],
    ) -> None:
        super().__init__(
            localization,
            transform,
            size,
            features=features,
            sampler=sampler,
            antialias=antialias,
            supersample=supersample,
            rngs=rngs,
            **options,
        )
        start = as_starts(start, transform)
        self.count, self.concatenate = start.shape[0], concatenate
        # instead of the layer for one transformer
        self.regression = _regression(features, start.reshape(-1), rngs)

    def localize(self, images: jax.Array, **kwargs: Any) -> jax.Array:
        """The flat parameters of each image's n transformations: ``(B, n, P)``.

        Further keywords go to the localization network.
        """
        params = super().localize(images, **kwargs)
        count, size = self.count, self.transform.num_params
        return params.reshape(params.shape[0], count, size)

    def warp(self, images: Image, params: Params) -> jax.Array:
        """Sample images ``(B, H, W, C)`` as ``params``, ``(B, n, P)``, describe.

        Returns:
          ``(B, n, *size, C)`` or, with ``concatenate``, ``(B, *size, n C)``, the
          channels of the first transformer first.
        """
        images = jnp.asarray(images)
        check_images(images, getattr(self.transform, "ndim", 2))
        size = self.size or images.shape[1:-1]
        windows = self._warp(images[:, None], params, size)
        if self.concatenate:
            windows = jnp.concatenate([*jnp.moveaxis(windows, 1, 0)], axis=-1)
        return windows


def _regression(features: int, start: jax.Array, rngs: nnx.Rngs) -> nnx.Linear:
    """The layer that predicts the parameters, and predicts ``start`` at first."""
    return nnx.Linear(
        features,
        start.shape[0],
        kernel_init=nnx.initializers.zeros,
        bias_init=lambda key, shape, dtype: start.astype(dtype),
        precision="highest",  # a few bits of theta are a few pixels
        rngs=rngs,
    )


class ConvLocalization(nnx.Module):
    """A convolutional localization network, by default the paper's for MNIST.

    It averages the images to half the resolution, applies convolutions with max pooling
    between them, and a fully connected layer.

    Args:
      image_shape: ``(H, W, C)``, or ``(D, H, W, C)`` of volumes.
      channels: of each convolution.
      kernel_size: of the convolutions, along each axis, without padding.
      hidden: units of the fully connected layer, the ``features``.
      downsample: the factor by which the images are first averaged down.
      conv_general_dilated: the convolution, as in Flax's ``Conv``.
      rngs: Flax's random streams.

    Raises:
      ValueError: images too small for these convolutions.

    >>> net = ConvLocalization((28, 28, 1), rngs=nnx.Rngs(0))
    >>> net(jnp.ones((2, 28, 28, 1))).shape
    (2, 20)
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        *,
        channels: Sequence[int] = (20, 20),
        kernel_size: int = 5,
        hidden: int = 20,
        downsample: int = 2,
        conv_general_dilated: Callable = lax.conv_general_dilated,
        rngs: nnx.Rngs,
    ) -> None:
        *size, inputs = image_shape
        check_conv_size(size, len(channels), kernel_size, downsample)
        size = [n // downsample for n in size]
        layers: list[Callable] = [partial(average_pool, factor=downsample)]
        for index, outputs in enumerate(channels):
            if index > 0:
                layers.append(partial(max_pool, factor=2))
                size = [n // 2 for n in size]
            conv = nnx.Conv(
                inputs,
                outputs,
                (kernel_size,) * len(size),
                padding="VALID",
                conv_general_dilated=conv_general_dilated,
                rngs=rngs,
            )
            layers += [conv, nnx.relu]
            size, inputs = [n - kernel_size + 1 for n in size], outputs
        dense = nnx.Linear(math.prod(size) * inputs, hidden, rngs=rngs)
        self.layers = nnx.Sequential(*layers, _flatten, dense, nnx.relu)
        self.features = hidden

    def __call__(self, images: jax.Array) -> jax.Array:
        """Images ``(B, *size, C)`` to features ``(B, features)``."""
        return self.layers(images)


class DenseLocalization(nnx.Module):
    """A fully connected localization network, by default the paper's for MNIST.

    Args:
      image_shape: ``(H, W, C)``, or ``(D, H, W, C)`` of volumes.
      hidden: units of each layer; those of the last are the ``features``.
      rngs: Flax's random streams.

    >>> net = DenseLocalization((28, 28, 1), rngs=nnx.Rngs(0))
    >>> net(jnp.ones((2, 28, 28, 1))).shape
    (2, 32)
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        *,
        hidden: Sequence[int] = (32, 32, 32),
        rngs: nnx.Rngs,
    ) -> None:
        widths = [math.prod(image_shape), *hidden]
        layers: list[Callable] = [_flatten]
        for inputs, outputs in itertools.pairwise(widths):
            layers += [nnx.Linear(inputs, outputs, rngs=rngs), nnx.relu]
        self.layers = nnx.Sequential(*layers)
        self.features = widths[-1]

    def __call__(self, images: jax.Array) -> jax.Array:
        """Images ``(B, *size, C)`` to features ``(B, features)``."""
        return self.layers(images)


def _flatten(x: jax.Array) -> jax.Array:
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))

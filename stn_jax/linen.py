"""Spatial transformers as Flax Linen modules, with the names of :mod:`stn_jax.nnx`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.typing import ArrayLike

from ._checks import (
    as_count,
    as_starts,
    as_transform,
    check_conv_size,
    check_features,
    check_images,
)
from ._types import Image, Params, Size
from .pooling import average_pool, max_pool
from .sampling import Kernel, Sampler
from .sampling.sampler import OPTIONS
from .transforms import Affine, Transform
from .warping import as_sampler, warp


class SpatialTransformer(nn.Module):
    """A spatial transformer: section 3 of Jaderberg et al. (2015).

    The same as :class:`stn_jax.nnx.SpatialTransformer`. Its parameters are those of
    ``localization`` and of ``regression``, the layer that predicts the transformation.
    As always in Linen, a localization that is made within an ``nn.compact`` method or a
    ``setup`` belongs to that module: its parameters then lie beside the transformer's,
    under its own name, and several transformers may share it.

    Args:
      localization: a module (or any function) from images ``(B, H, W, C)`` to features
        ``(B, features)``.
      transform: the family of transformations, from :mod:`stn_jax.transforms`.
      size: of the output, ``(height, width)``; that of the images when None.
      method, padding_mode, fill_value, align_corners, outside, implementation: the
        options of a :class:`~stn_jax.Sampler`.
      antialias, supersample: as in :func:`~stn_jax.warp`.
      sampler: a :class:`~stn_jax.Sampler`, instead of its options.

    Raises:
      TypeError: ``sampler`` together with options; a ``transform`` that is no family.
      ValueError: options that the sampler refuses.

    >>> st = SpatialTransformer(DenseLocalization())
    >>> images = jnp.ones((2, 28, 28, 1))
    >>> variables = st.init(jax.random.key(0), images)
    >>> sorted(variables["params"])
    ['localization', 'regression']
    >>> st.apply(variables, images, method="localize")[0]
    Array([1., 0., 0., 0., 1., 0.], dtype=float32)
    """

    localization: Callable[..., jax.Array]
    transform: Transform = Affine()
    size: Size | None = None
    method: str | Kernel = "bilinear"
    padding_mode: str | Sequence[str] = "zeros"
    fill_value: ArrayLike | Sequence[ArrayLike] = 0.0
    align_corners: bool = False
    outside: str = "blend"
    antialias: bool = False
    supersample: int = 1
    implementation: str | None = None
    sampler: Sampler | None = None

    def __post_init__(self) -> None:
        """Validate the transform and the options."""
        as_transform(self.transform)
        as_count(self.supersample, "supersample")
        self._sampler()
        super().__post_init__()

    def setup(self) -> None:
        """Make the regression layer, with zero weights and the identity as its bias."""
        self.regression = _regression(self.transform.identity)

    def localize(self, images: jax.Array, **kwargs: Any) -> jax.Array:
        """The flat parameters of each image's transformation: ``(B, P)``.

        Further keywords go to the localization network.
        """
        check_images(images, getattr(self.transform, "ndim", 2))
        features = self.localization(images, **kwargs)
        check_features(features, images)
        return self.regression(features)

    def warp(self, images: Image, params: Params) -> jax.Array:
        """Sample images ``(B, H, W, C)`` as ``params``, ``(B, P)``, describe.

        The result is ``(B, *size, C)``.
        """
        images = jnp.asarray(images)
        check_images(images, getattr(self.transform, "ndim", 2))
        return self._warp(images, params, self.size or images.shape[1:-1])

    @nn.nowrap
    def _warp(self, images: jax.Array, params: Params, size: Size) -> jax.Array:
        return warp(
            images,
            self.transform,
            params,
            size,
            sampler=self._sampler(),
            antialias=self.antialias,
            supersample=self.supersample,
        )

    def __call__(self, images: jax.Array, **kwargs: Any) -> jax.Array:
        """Images ``(B, H, W, C)`` to transformed images, as :meth:`warp` returns them.

        Further keywords go to the localization network.
        """
        return self.warp(images, self.localize(images, **kwargs))

    @nn.nowrap
    def _sampler(self) -> Sampler:
        options = {
            field.name: value
            for field in dataclasses.fields(self)
            if field.name in OPTIONS
            and (value := getattr(self, field.name)) is not field.default
            and not (type(value) is type(field.default) and value == field.default)
        }
        return as_sampler(self.sampler, options)


class ParallelSpatialTransformers(SpatialTransformer, kw_only=True):
    """n transformers of the same images, side by side: section 4.3 of Jaderberg et al.

    The same as :class:`stn_jax.nnx.ParallelSpatialTransformers`.

    Args:
      start: the parameters ``(n, P)`` where the n transformers start, for instance
        :func:`~stn_jax.transforms.tiles`.
      concatenate: put the outputs side by side along the channels, instead of on an
        axis of their own.

    The others are those of :class:`SpatialTransformer`.

    Raises:
      TypeError, ValueError: as :class:`SpatialTransformer`; ``start`` of another shape.

    >>> from stn_jax.transforms import Attention, tiles
    >>> family = Attention(scale=0.5)
    >>> st = ParallelSpatialTransformers(
    ...     DenseLocalization(), family, (14, 14), start=tiles(family, (1, 2))
    ... )
    >>> images = jnp.ones((8, 28, 28, 1))
    >>> st.init_with_output(jax.random.key(0), images)[0].shape
    (8, 2, 14, 14, 1)
    """

    start: ArrayLike
    concatenate: bool = False

    def __post_init__(self) -> None:
        """Validate the transform, the options and the start."""
        super().__post_init__()
        as_starts(self.start, self.transform)

    def setup(self) -> None:
        """Make the regression layer, with zero weights and the start as its bias."""
        start = as_starts(self.start, self.transform)
        self.regression = _regression(start.reshape(-1))

    def localize(self, images: jax.Array, **kwargs: Any) -> jax.Array:
        """The flat parameters of each image's n transformations: ``(B, n, P)``.

        Further keywords go to the localization network.
        """
        params = super().localize(images, **kwargs)
        count, size = jnp.shape(self.start)
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


def _regression(start: jax.Array) -> nn.Dense:
    """The layer that predicts the parameters, and predicts ``start`` at first."""
    return nn.Dense(
        start.shape[0],
        kernel_init=nn.initializers.zeros,
        bias_init=lambda key, shape, dtype: start.astype(dtype),
        precision="highest",  # a few bits of theta are a few pixels
    )


class ConvLocalization(nn.Module):
    """A convolutional localization network, by default the paper's for MNIST.

    Args:
      channels: of each convolution.
      kernel_size: of the convolutions, along each axis, without padding.
      hidden: units of the fully connected layer, the features.
      downsample: the factor by which the images are first averaged down.
      conv_general_dilated: the convolution, as in Flax's ``Conv``.

    Raises:
      ValueError: images too small for these convolutions.

    >>> images = jnp.ones((2, 28, 28, 1))
    >>> ConvLocalization().init_with_output(jax.random.key(0), images)[0].shape
    (2, 20)
    """

    channels: Sequence[int] = (20, 20)
    kernel_size: int = 5
    hidden: int = 20
    downsample: int = 2
    conv_general_dilated: Callable = lax.conv_general_dilated

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Images ``(B, *size, C)`` to features ``(B, hidden)``."""
        channels, size = self.channels, images.shape[1:-1]
        check_conv_size(size, len(channels), self.kernel_size, self.downsample)
        x = average_pool(images, self.downsample)
        for index, outputs in enumerate(channels):
            if index > 0:
                x = max_pool(x, 2)
            conv = nn.Conv(
                outputs,
                (self.kernel_size,) * (x.ndim - 2),
                padding="VALID",
                conv_general_dilated=self.conv_general_dilated,
            )
            x = nn.relu(conv(x))
        x = x.reshape(x.shape[0], math.prod(x.shape[1:]))
        return nn.relu(nn.Dense(self.hidden)(x))


class DenseLocalization(nn.Module):
    """A fully connected localization network, by default the paper's for MNIST.

    Args:
      hidden: units of each layer; those of the last are the features.

    >>> images = jnp.ones((2, 28, 28, 1))
    >>> DenseLocalization().init_with_output(jax.random.key(0), images)[0].shape
    (2, 32)
    """

    hidden: Sequence[int] = (32, 32, 32)

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Images ``(B, *size, C)`` to features ``(B, hidden[-1])``."""
        x = images.reshape(images.shape[0], math.prod(images.shape[1:]))
        for outputs in self.hidden:
            x = nn.relu(nn.Dense(outputs)(x))
        return x

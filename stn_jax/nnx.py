"""Spatial transformers as Flax NNX modules."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.typing import ArrayLike

from ._checks import as_size, check_features
from .pooling import average_pool, max_pool
from .sampling.kernels import Kernel
from .transforms import Affine, Transform
from .warping import warp


class SpatialTransformer(nnx.Module):
    """Looks where a localization network tells it to: section 3 of Jaderberg et al.

    ``localization`` maps images to features; a linear layer, which the transformer
    owns, maps these to the parameters of ``transform``; the images are sampled on the
    grid they describe. The layer starts with zero weights and the identity as its bias,
    so that an untrained transformer passes its images on unchanged.

    Args:
      localization: any callable (a module, to be trained along) from images ``(B, H, W,
        C)`` to features ``(B, features)``.
      transform: the family of transformations, from :mod:`stn_jax.transforms`.
      size: of the output, ``(height, width)``; that of the images when None.
      features: how many features ``localization`` returns.
      method, padding_mode, fill_value, align_corners, outside, antialias,
        implementation: as in :func:`~stn_jax.sample` and :func:`~stn_jax.warp`.
      rngs: Flax's random streams.

    Volumes ``(B, D, H, W, C)`` work alike with ``Affine(ndim=3)``.

    >>> net = DenseLocalization((28, 28, 1), rngs=nnx.Rngs(0))
    >>> st = SpatialTransformer(net, Affine(), features=net.features, rngs=nnx.Rngs(1))
    >>> images = jnp.ones((2, 28, 28, 1))
    >>> st.localize(images)[0]  # flat parameters: the identity
    Array([1., 0., 0., 0., 1., 0.], dtype=float32)
    >>> bool(jnp.allclose(st(images), images, atol=1e-5))
    True
    """

    def __init__(
        self,
        localization: Callable[[jax.Array], jax.Array],
        transform: Transform = Affine(),
        size: Sequence[int] | None = None,
        *,
        features: int,
        method: str | Kernel = "bilinear",
        padding_mode: str | Sequence[str] = "zeros",
        fill_value: ArrayLike = 0.0,
        align_corners: bool = False,
        outside: str = "blend",
        antialias: bool = False,
        implementation: str | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        self.localization = localization
        self.transform = transform
        self.size = None if size is None else as_size(size)
        self.method = method
        self.padding_mode = padding_mode
        self.fill_value = fill_value
        self.align_corners = align_corners
        self.outside = outside
        self.antialias = antialias
        self.implementation = implementation
        self.regression = nnx.Linear(
            features,
            transform.num_params,
            kernel_init=nnx.initializers.zeros,
            bias_init=lambda key, shape, dtype: transform.identity.astype(dtype),
            precision="highest",  # a few bits of theta are a few pixels
            rngs=rngs,
        )

    def localize(self, images: jax.Array) -> jax.Array:
        """The flat parameters of each image's transformation: ``(B, P)``."""
        features = self.localization(images)
        check_features(features, images, self.regression.in_features)
        return self.regression(features)

    def warp(self, images: ArrayLike, params: ArrayLike) -> jax.Array:
        """Images ``(B, H, W, C)`` sampled as ``params``, ``(B, P)``, describe.

        The parameters need not be these images' own: fed forward from another layer or
        another resolution, they mean the same.
        """
        images = jnp.asarray(images)
        return warp(
            images,
            self.transform,
            params,
            self.size or images.shape[1:-1],
            method=self.method,
            padding_mode=self.padding_mode,
            fill_value=self.fill_value,
            align_corners=self.align_corners,
            outside=self.outside,
            antialias=self.antialias,
            implementation=self.implementation,
        )

    def __call__(self, images: jax.Array) -> jax.Array:
        """Images ``(B, H, W, C)``, looked at: ``(B, *size, C)``."""
        return self.warp(images, self.localize(images))


class ConvLocalization(nnx.Module):
    """A convolutional localization network, by default the paper's for MNIST.

    The images at half the resolution, convolutions with a pooling between them, and a
    fully connected layer.

    Args:
      image_shape: ``(H, W, C)``, or ``(D, H, W, C)`` of volumes.
      channels: of each convolution.
      kernel_size: of the convolutions, along each axis; they do not pad.
      hidden: units of the fully connected layer, the ``features``.
      downsample: the factor by which the images are averaged down first.
      conv_general_dilated: what convolves, as in Flax's ``Conv``.
      rngs: Flax's random streams.

    Raises:
      ValueError: images too small for so many convolutions.

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
        if min(size) < 1:
            raise ValueError(
                f"images of shape {tuple(image_shape)} are too small for "
                f"{len(channels)} convolutions of size {kernel_size} at "
                f"1/{downsample} of the resolution"
            )
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
      hidden: units of each layer, of the last one the ``features``.
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
    return x.reshape(x.shape[0], -1)

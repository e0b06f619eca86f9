"""Spatial transformers as Flax Linen modules: the names of :mod:`stn_jax.nnx`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.typing import ArrayLike

from ._checks import check_features
from .pooling import average_pool, max_pool
from .sampling.kernels import Kernel
from .transforms import Affine, Transform
from .warping import warp


class SpatialTransformer(nn.Module):
    """Looks where a localization network tells it to: section 3 of Jaderberg et al.

    The same as :class:`stn_jax.nnx.SpatialTransformer`, with Linen's submodules
    ``localization`` and ``regression``.

    Attributes:
      localization: a module (or any function) from images ``(B, H, W, C)`` to features
        ``(B, features)``.
      transform: the family of transformations, from :mod:`stn_jax.transforms`.
      size: of the output, ``(height, width)``; that of the images when None.
      method, padding_mode, fill_value, align_corners, outside, antialias,
        implementation: as in :func:`~stn_jax.sample` and :func:`~stn_jax.warp`.

    >>> st = SpatialTransformer(DenseLocalization())
    >>> images = jnp.ones((2, 28, 28, 1))
    >>> variables = st.init(jax.random.key(0), images)
    >>> sorted(variables["params"])
    ['localization', 'regression']
    >>> st.apply(variables, images, method="localize")[0]
    Array([1., 0., 0., 0., 1., 0.], dtype=float32)
    """

    localization: Callable[[jax.Array], jax.Array]
    transform: Transform = Affine()
    size: Sequence[int] | None = None
    method: str | Kernel = "bilinear"
    padding_mode: str | Sequence[str] = "zeros"
    fill_value: ArrayLike = 0.0
    align_corners: bool = False
    outside: str = "blend"
    antialias: bool = False
    implementation: str | None = None

    def setup(self) -> None:
        """The regression layer, at zero weights and the identity."""
        transform = self.transform
        self.regression = nn.Dense(
            transform.num_params,
            kernel_init=nn.initializers.zeros,
            bias_init=lambda key, shape, dtype: transform.identity.astype(dtype),
            precision="highest",  # a few bits of theta are a few pixels
        )

    def localize(self, images: jax.Array) -> jax.Array:
        """The flat parameters of each image's transformation: ``(B, P)``."""
        features = self.localization(images)
        check_features(features, images)
        return self.regression(features)

    def warp(self, images: ArrayLike, params: ArrayLike) -> jax.Array:
        """Images ``(B, H, W, C)`` sampled as ``params``, ``(B, P)``, describe."""
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


class ConvLocalization(nn.Module):
    """A convolutional localization network, by default the paper's for MNIST.

    Attributes:
      channels: of each convolution.
      kernel_size: of the convolutions, along each axis; they do not pad.
      hidden: units of the fully connected layer, the features.
      downsample: the factor by which the images are averaged down first.
      conv_general_dilated: what convolves, as in Flax's ``Conv``.

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
        x = average_pool(images, self.downsample)
        for index, outputs in enumerate(self.channels):
            if index > 0:
                x = max_pool(x, 2)
            conv = nn.Conv(
                outputs,
                (self.kernel_size,) * (x.ndim - 2),
                padding="VALID",
                conv_general_dilated=self.conv_general_dilated,
            )
            x = nn.relu(conv(x))
        if 0 in x.shape[1:]:
            raise ValueError(
                f"images of shape {images.shape[1:]} are too small for "
                f"{len(self.channels)} convolutions of size {self.kernel_size} at "
                f"1/{self.downsample} of the resolution"
            )
        return nn.relu(nn.Dense(self.hidden)(x.reshape(x.shape[0], -1)))


class DenseLocalization(nn.Module):
    """A fully connected localization network, by default the paper's for MNIST.

    Attributes:
      hidden: units of each layer, of the last one the features.

    >>> images = jnp.ones((2, 28, 28, 1))
    >>> DenseLocalization().init_with_output(jax.random.key(0), images)[0].shape
    (2, 32)
    """

    hidden: Sequence[int] = (32, 32, 32)

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Images ``(B, *size, C)`` to features ``(B, hidden[-1])``."""
        x = images.reshape(images.shape[0], -1)
        for outputs in self.hidden:
            x = nn.relu(nn.Dense(outputs)(x))
        return x

"""The networks of the co-localization: the patches' transformer and the encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike

from stn_jax.nnx import SpatialTransformer
from stn_jax.pooling import max_pool
from stn_jax.transforms import Attention

from ..classifiers import LeanCNN
from ..configs import Colocalization
from ..convolution import convolve
from .scenes import CANVAS, PATCH

FEATURES = 128  # 8 in the paper, but only 128 give its 100,000 parameters


@dataclass(frozen=True)
class Patch:
    """A family of squares within the image, of side ``least`` to ``most``.

    Sides are relative to the image's. ``params`` are (u, v_x, v_y), any numbers;
    (0, 0, 0) is the square in the middle with the mean side. Without these bounds the
    loss is smallest for patches of the whole image, of the background, or inside a
    stroke, which are all similar.
    """

    least: float = 0.3
    most: float = 0.6

    @property
    def num_params(self) -> int:
        """The number of parameters."""
        return 3

    @property
    def identity(self) -> jax.Array:
        """The initial parameters: the square in the middle."""
        return jnp.zeros(3)

    def attention(self, params: ArrayLike) -> jax.Array:
        """The parameters (s, tx, ty) of ``Attention`` for the same squares."""
        params = jnp.asarray(params)
        share = jax.nn.sigmoid(params[..., :1])
        side = self.least + (self.most - self.least) * share
        return jnp.concatenate([side, (1 - side) * jnp.tanh(params[..., 1:])], axis=-1)

    def grid(
        self, params: ArrayLike, size: Sequence[int], *, align_corners: bool = False
    ) -> jax.Array:
        """The sampling grid, ``(*batch, *size, 2)``."""
        return Attention().grid(
            self.attention(params), size, align_corners=align_corners
        )


class PatchLocalization(nnx.Module):
    """The localization network of appendix A.2.

    A convolution with 8 filters of 9x9 and stride 4, 2x2 max pooling, and two hidden
    layers.
    """

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.conv = nnx.Conv(
            1,
            8,
            (9, 9),
            strides=(4, 4),
            padding="VALID",
            conv_general_dilated=convolve,
            rngs=rngs,
        )
        side = ((CANVAS - 9) // 4 + 1) // 2
        self.dense1 = nnx.Linear(8 * side**2, FEATURES, rngs=rngs)
        self.dense2 = nnx.Linear(FEATURES, FEATURES, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Map images ``(B, 84, 84, 1)`` to features ``(B, 128)``."""
        x = max_pool(nnx.relu(self.conv(images)), 2)
        x = nnx.relu(self.dense1(x.reshape(len(x), -1)))
        return nnx.relu(self.dense2(x))


class Encoder(nnx.Module):
    """The last three layers of a trained CNN, concatenated (appendix A.2).

    Each layer is divided by the root mean square distance between the features of
    ``digits``, ``(B, 28, 28, 1)``, and those of an empty patch, times sqrt(3). In this
    unit the squared distance of a digit from an empty patch is 1 in the mean, which
    sets the scale of the margin.
    """

    def __init__(self, cnn: LeanCNN, digits: jax.Array) -> None:
        self.cnn = cnn
        from_blank = [
            jnp.sqrt(3 * jnp.square(of_digits - of_blank).sum(axis=-1).mean())
            for of_digits, of_blank in zip(
                self.layers(digits), self.layers(jnp.zeros_like(digits)), strict=True
            )
        ]
        self.units = tuple(float(unit) for unit in from_blank)

    def layers(self, patches: jax.Array) -> tuple[jax.Array, ...]:
        """Features of the second convolution and the hidden layer, and the logits."""
        cnn = self.cnn
        x = nnx.relu(cnn.conv2(nnx.relu(cnn.conv1(patches))))
        x = x.reshape(len(x), -1)
        hidden = nnx.relu(cnn.dense(x))
        return x, hidden, cnn.logits(hidden)

    def __call__(self, patches: jax.Array) -> jax.Array:
        """Map patches ``(B, 28, 28, 1)`` to features ``(B, F)``."""
        layers = zip(self.layers(patches), self.units, strict=True)
        return jnp.concatenate([x / unit for x, unit in layers], axis=-1)


def patch_transformer(config: Colocalization, start: int) -> SpatialTransformer:
    """The transformer of the patches, with the initial weights of a start."""
    rngs = nnx.Rngs(config.seed + start)
    return SpatialTransformer(
        PatchLocalization(rngs), Patch(), (PATCH, PATCH), features=FEATURES, rngs=rngs
    )

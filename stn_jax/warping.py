"""The common case in one call: an image, a family, its parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .sampling import sample
from .transforms import Transform


def warp(
    image: ArrayLike,
    transform: Transform,
    params: ArrayLike,
    size: Sequence[int] | None = None,
    *,
    align_corners: bool = False,
    **sampling: Any,
) -> jax.Array:
    """The image sampled on the grid that a family's parameters describe.

    Args:
      image: ``(*batch, H, W, C)``, or ``(*batch, D, H, W, C)`` for a family of three
        dimensions (one whose ``ndim`` is 3).
      transform: the family, from :mod:`stn_jax.transforms` or of one's own.
      params: ``(*batch, P)``, as the family means them, in normalized coordinates.
      size: of the output, static; that of the image when None.
      align_corners: as in :func:`~stn_jax.sample`.
      sampling: ``method``, ``padding_mode``, ``fill_value`` and ``outside``, as in
        :func:`~stn_jax.sample`.

    Returns:
      ``(*batch, *size, C)``, with the image's dtype.

    Raises:
      TypeError, ValueError: those of the family's grid and of the sampler.

    >>> from stn_jax.transforms import Affine
    >>> image = jnp.arange(4.0).reshape(1, 4, 1)
    >>> mirrored = jnp.array([-1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    >>> warp(image, Affine(), mirrored, method="nearest")[0, :, 0]
    Array([3., 2., 1., 0.], dtype=float32)
    """
    image = jnp.asarray(image)
    if size is None:
        ndim = getattr(transform, "ndim", 2)
        size = image.shape[-ndim - 1 : -1]
    grid = transform.grid(params, size, align_corners=align_corners)
    return sample(image, grid, align_corners=align_corners, **sampling)

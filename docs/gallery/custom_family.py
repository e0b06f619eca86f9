"""
A custom family: the swirl
==========================

A class with ``num_params``, ``identity`` and ``grid`` is a family of transformations.
This one turns the points of the output about a center, near the center most. Its
parameters are the center, the strength and the radius. With ``apply`` the family also
works in :class:`~stn_jax.transforms.Chain` and in :func:`~stn_jax.invert_points`.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from sklearn.datasets import load_sample_image

from stn_jax import identity_grid, invert_points, warp
from stn_jax.drawing import draw_grid, draw_image
from stn_jax.transforms import Chain, Similarity


class Swirl:
    """A rotation about a center by an angle that falls off with the distance r.

    The angle is ``strength * exp(-(r / radius) ** 2)``, in radians. The parameters are
    ``x, y, strength, radius``, the center and the radius normalized.
    """

    num_params = 4

    @property
    def identity(self):
        return jnp.array([0.0, 0.0, 0.0, 0.5])

    def apply(self, params, points):
        """Map points of the output, ``(*batch, N, 2)``, to points of the input."""
        center, strength, radius = jnp.split(params[..., None, :], [2, 3], axis=-1)
        x, y = jnp.moveaxis(points - center, -1, 0)
        squared = (x**2 + y**2) / radius[..., 0] ** 2
        angle = strength[..., 0] * jnp.exp(-squared)
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        return center + jnp.stack([cos * x - sin * y, sin * x + cos * y], axis=-1)

    def grid(self, params, size, *, align_corners=False):
        points = identity_grid(size, align_corners=align_corners).reshape(-1, 2)
        return self.apply(params, points).reshape(*params.shape[:-1], *size, 2)

    def inverse(self, params):
        """The rotation keeps r, so the opposite strength undoes it."""
        return params * jnp.array([1, 1, -1, 1])


photograph = load_sample_image("flower.jpg")[67:377, 152:462].astype("float32") / 255
family, size = Swirl(), photograph.shape[:2]
params = jnp.array([0.1, -0.05, 2.5, 0.5])
options = {"method": "bicubic", "padding_mode": "border"}
swirled = warp(photograph, family, params, **options)
undone = warp(swirled, family, family.inverse(params), **options)

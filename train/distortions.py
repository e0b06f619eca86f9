"""The distortions of section 4.1 and appendix A.4, by the library's own warp.

A distortion takes a key and one image ``(H, W, C)`` in [0, 1] and returns the image on
its canvas; ``distort`` lifts it over a batch.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from stn_jax import affine_grid, bilinear_sample

Distortion = Callable[[jax.Array, jax.Array], jax.Array]


def distort(name: str, key: jax.Array, images: jax.Array) -> jax.Array:
    """Each image of a batch ``(B, H, W, C)``, bytes or floats, distorted on its own."""
    if images.dtype == jnp.uint8:
        images = images.astype(jnp.float32) / 255
    return jax.vmap(DISTORTIONS[name])(jax.random.split(key, len(images)), images)


def none(key: jax.Array, image: jax.Array) -> jax.Array:
    """The image as it is."""
    return image


def rotated(key: jax.Array, image: jax.Array) -> jax.Array:
    """R: rotated by -90 to 90 degrees."""
    angle = jax.random.uniform(key, minval=-np.pi / 2, maxval=np.pi / 2)
    return _place(image, image.shape[:2], angle, 1.0, np.zeros(2))


def rotated_scaled_translated(key: jax.Array, image: jax.Array) -> jax.Array:
    """RTS: by -45 to 45 degrees, 0.7 to 1.2 times the size, anywhere on the canvas.

    The canvas is 1.5 times as large as the image (42x42 for MNIST); the center is
    uniform over the places where the scaled image fits onto it.
    """
    angle_key, scale_key, place_key = jax.random.split(key, 3)
    angle = jax.random.uniform(angle_key, minval=-np.pi / 4, maxval=np.pi / 4)
    scale = jax.random.uniform(scale_key, minval=0.7, maxval=1.2)
    height, width = image.shape[:2]
    canvas = (height * 3 // 2, width * 3 // 2)
    size, space = np.array([width, height]), np.array(canvas[::-1])
    room = (space - scale * size) / 2
    center = room * jax.random.uniform(place_key, (2,), minval=-1, maxval=1)
    return _place(image, canvas, angle, scale, center)


DISTORTIONS: dict[str, Distortion] = {
    "none": none,
    "r": rotated,
    "rts": rotated_scaled_translated,
}


def _place(
    image: jax.Array,
    canvas: tuple[int, ...],
    angle: jax.Array,
    scale: jax.Array | float,
    center: jax.Array | np.ndarray,
) -> jax.Array:
    """The image turned by ``angle``, magnified by ``scale``, moved to ``center``.

    ``center`` is (x, y), in pixels from the middle of the canvas. The grid goes from
    the canvas to the image: p_image = R(angle) / scale (p_canvas - center) in pixels
    from the middle, turned into normalized units on both sides.
    """
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    back = jnp.stack([jnp.stack([cos, -sin]), jnp.stack([sin, cos])]) / scale
    to_image = 2 / np.array(image.shape[1::-1])  # pixels to [-1, 1], (x, y)
    to_canvas = 2 / np.array(canvas[::-1])
    linear = back * to_image[:, None] / to_canvas
    offset = -(back * center).sum(axis=1) * to_image
    theta = jnp.concatenate([linear, offset[:, None]], axis=1)
    return bilinear_sample(image, affine_grid(theta, canvas))

"""A fine-grained set of our own, drawn with the digits of a batch: a twin of birds.

An image of 64x64 pixels shows a head, a digit in warm colors, and a body, another digit
in cold ones, on a cluttered background. The class is the pair: 37 is the head 3 on the
body 7. Both digits have about 14 pixels, at places, angles and sizes of their own.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from .distortions import clutter, placed
from .house_numbers import texture
from .share import WHOLE, Share

SIDE = 64
DIGITS = 10
PARTS = ("head", "body")
APART = 22.0  # pixels at least between the centers of head and body
REDRAWS = 16  # of places that are too close
STROKES = 6
# the least and the largest amounts of red, green and blue of head and body
COLORS = (
    ((0.7, 0.1, 0.0), (0.0, 0.3, 0.6)),
    ((1.0, 0.6, 0.3), (0.4, 1.0, 1.0)),
)


def parts(
    key: jax.Array, images: jax.Array, labels: jax.Array, share: Share = WHOLE
) -> tuple[jax.Array, jax.Array]:
    """Draw a head for each digit of a batch, with a body that is another one of it.

    Args:
      key: the random key.
      images: digits ``(B, H, W, C)`` in [0, 1], light on dark; colors are averaged.
      labels: their classes ``(B,)``, below 10.
      share: which of a batch's digits these are; bodies are of the whole batch.

    Returns:
      Images ``(B, 64, 64, 3)`` in [0, 1] and labels ``(B,)`` below 100.
    """
    drawn, pairs, _ = scenes(key, images, labels, share)
    return drawn, pairs


def scenes(
    key: jax.Array, images: jax.Array, labels: jax.Array, share: Share = WHOLE
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The examples of :func:`parts`, and where the parts are.

    Returns:
      Images, labels, and the centers of head and body ``(B, 2, 2)``: (x, y) in pixels
      from the middle of the image.
    """
    images = images.mean(axis=-1, keepdims=True)
    order_key, key = jax.random.split(key)
    others, of_others = share.whole(images), share.whole(labels)
    order = share.of(jax.random.permutation(order_key, len(others)))
    pairs = jnp.stack([images, others[order]], axis=1)
    keys = share.keys(key, len(images))
    drawn, centers = jax.vmap(draw_pair, (0, 0, None))(keys, pairs, others)
    return drawn, DIGITS * labels + of_others[order], centers


def draw_pair(
    key: jax.Array, pair: jax.Array, others: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Draw a head and a body ``(2, H, W, 1)``; return the image and their centers."""
    keys = jax.random.split(key, 5)
    canvas = jax.random.uniform(keys[0], (3,), maxval=0.3)
    canvas = canvas + 0.5 * texture(keys[1], SIDE)
    strokes = clutter(keys[2], jnp.zeros((SIDE, SIDE, 1)), others, STROKES)
    stroke_color = jax.random.uniform(jax.random.fold_in(keys[2], 0), (3,))
    canvas = canvas + (stroke_color - canvas) * strokes
    centers = _centers(keys[3])
    colors = jnp.array(COLORS)
    for part, part_key in enumerate(jax.random.split(keys[4], len(PARTS))):
        angle_key, scale_key, color_key = jax.random.split(part_key, 3)
        angle = jax.random.uniform(angle_key, minval=-0.6, maxval=0.6)
        scale = jax.random.uniform(scale_key, minval=0.6, maxval=0.8)
        digit = placed(pair[part], (SIDE, SIDE), angle, scale, centers[part])
        low, high = colors[:, part]
        color = jax.random.uniform(color_key, (3,), minval=low, maxval=high)
        canvas = canvas + (color - canvas) * digit
    return jnp.clip(canvas, 0, 1), centers


def _centers(key: jax.Array) -> jax.Array:
    """Places of head and body, (x, y) from the middle, at least APART pixels apart.

    They are redrawn up to 16 times, and lie at least 10 pixels from the edges.
    """
    room = SIDE / 2 - 10
    drawn = jax.random.uniform(key, (REDRAWS, 2, 2), minval=-room, maxval=room)
    distance = jnp.linalg.norm(drawn[:, 0] - drawn[:, 1], axis=-1)
    return drawn[jnp.argmax(distance >= APART)]

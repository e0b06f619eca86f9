"""House numbers of our own, drawn with the digits of a batch: a twin of SVHN.

Images have the shapes and labels of SVHN's: 64x64 pixels with a number that fills most
of the image, or 128x128, with a number of the same size in the middle and as much again
around it. A label has five places; class 0 is a place without a digit, and class 1 is
the first of the digits.

Lengths in pixels are for digits of 28x28, which are drawn at about twice their size.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from .distortions import blurred, clutter, paste, resample
from .share import WHOLE, Share

PLACES = 5
COUNTS = (0.2, 0.4, 0.25, 0.1, 0.05)  # chances of one to five digits
PITCH = 0.68  # from digit to digit, in widths of an image of a digit
CONTRAST = 0.3  # least difference of brightness between a number and the background
WITHIN = 64  # pixels of height and of width that a number lies in
STROKES, NEIGHBORS = 3, 1  # distractors for each 64x64 pixels, neighbors of a number


def house_numbers(
    key: jax.Array,
    images: jax.Array,
    labels: jax.Array,
    share: Share = WHOLE,
    *,
    side: int,
) -> tuple[jax.Array, jax.Array]:
    """Draw a house number for each digit of a batch, which is its first digit.

    The other digits are of the same batch. Most numbers have two or three digits.

    Args:
      key: the random key.
      images: digits ``(B, H, W, C)`` in [0, 1], light on dark; colors are averaged.
      labels: their classes ``(B,)``.
      share: which of a batch's digits these are; the others are of the whole batch.
      side: height and width of the result, 64 or 128.

    Returns:
      Images ``(B, side, side, 3)`` in [0, 1] and labels ``(B, 5)``.
    """
    images = images.mean(axis=-1, keepdims=True)
    count_key, pick_key, draw_key = jax.random.split(key, 3)
    others, of_others = share.whole(images), share.whole(labels)
    batch = len(others)
    chances = jnp.array(COUNTS)
    counts = 1 + jax.random.choice(count_key, PLACES, (batch, 1), p=chances)
    picks = jax.random.randint(pick_key, (batch, PLACES), 0, batch)
    picks = picks.at[:, 0].set(jnp.arange(batch))
    is_drawn = jnp.arange(PLACES) < counts
    picks, is_drawn = share.of(picks), share.of(is_drawn)
    keys = share.keys(draw_key, len(images))
    draw = jax.vmap(partial(drawn, side=side), (0, 0, 0, None))
    numbers = draw(keys, others[picks], is_drawn.sum(axis=1), others)
    return numbers, jnp.where(is_drawn, of_others[picks] + 1, 0)


def drawn(
    key: jax.Array, digits: jax.Array, count: jax.Array, others: jax.Array, side: int
) -> jax.Array:
    """Draw the first ``count`` of digits ``(5, H, W, 1)`` as a house number.

    Behind it are a texture, strokes and cut-off neighbors, parts of ``others``.
    """
    keys = jax.random.split(key, 5)
    behind, color, beside = _colors(keys[0])
    canvas = behind + texture(keys[1], side)
    strokes = _distractors(keys[2], others, side)
    canvas = canvas + (beside - canvas) * strokes
    width_key, place_key = jax.random.split(keys[3])
    strip = blurred(
        _side_by_side(digits, count), jax.random.uniform(width_key, maxval=1.5)
    )
    number = _placed(place_key, strip, count, digits.shape[1:3], side)
    light = jax.random.uniform(keys[4], minval=0.8)
    return jnp.clip(canvas + (light * color - canvas) * number, 0, 1)


def _side_by_side(digits: jax.Array, count: jax.Array) -> jax.Array:
    """The first digits in a strip ``(H, W', 1)``; their images overlap a little."""
    places, height, width, _ = digits.shape
    left = [round(index * PITCH * width) for index in range(places)]
    strip = jnp.zeros((height, left[-1] + width, 1), digits.dtype)
    for index, x in enumerate(left):
        digit = jnp.where(index < count, digits[index], 0)
        strip = strip.at[:, x : x + width].max(digit)
    return strip


def _placed(
    key: jax.Array,
    strip: jax.Array,
    count: jax.Array,
    digit_size: tuple[int, ...],
    side: int,
) -> jax.Array:
    """A strip's number on the canvas, sized, slanted, rotated: ``(side, side, 1)``.

    It is 36 to 48 pixels high, as wide as suits, and at most 60 wide. It lies within
    the middle 64x64 pixels, but for the corners of one that is rotated.
    """
    size_key, width_key, slant_key, turn_key, place_key = jax.random.split(key, 5)
    high = jax.random.uniform(size_key, minval=36.0, maxval=48.0)
    wide = jnp.minimum(0.72 * high * count, 60.0)
    wide *= jax.random.uniform(width_key, minval=0.85)
    slant = jax.random.uniform(slant_key, minval=-0.25, maxval=0.25)
    turn = jax.random.uniform(turn_key, minval=-0.15, maxval=0.15)
    height, width = digit_size
    # the number in the strip: digits fill 20 of the 28 pixels of their images
    stretch = jnp.stack([wide / (PITCH * width * count), high / (height * 20 / 28)])
    cos, sin = jnp.cos(turn), jnp.sin(turn)
    rotation = jnp.stack([jnp.stack([cos, -sin]), jnp.stack([sin, cos])])
    slanted = jnp.stack([jnp.stack([jnp.ones(()), slant]), jnp.array([0.0, 1.0])])
    back = jnp.linalg.inv(rotation @ slanted @ jnp.diag(stretch))
    room = jnp.maximum(WITHIN - jnp.stack([wide, high]), 0) / 2
    center = room * jax.random.uniform(place_key, (2,), minval=-1)
    middle = (count - PLACES) / 2 * PITCH * width  # of the digits, from the strip's
    origin = jnp.stack([middle, jnp.zeros(())])
    return resample(strip, (side, side), back, center, origin)


def _colors(key: jax.Array) -> jax.Array:
    """Colors of the background, the number and the distractors: ``(3, 3)``.

    The number's color is redrawn, up to 64 times, until it contrasts.
    """
    behind_key, number_key, beside_key = jax.random.split(key, 3)
    behind = jax.random.uniform(behind_key, (3,))
    numbers = jax.random.uniform(number_key, (64, 3))
    contrast = jnp.abs(numbers.mean(axis=1) - behind.mean())
    number = numbers[jnp.argmax(contrast >= CONTRAST)]
    return jnp.stack([behind, number, jax.random.uniform(beside_key, (3,))])


def texture(key: jax.Array, side: int) -> jax.Array:
    """Smooth light and shade of random strength: ``(side, side, 3)`` around 0."""
    strength_key, key = jax.random.split(key)
    strength = jax.random.uniform(strength_key, maxval=0.2)
    coarse = jax.random.uniform(key, (side // 8, side // 8, 3), minval=-1)
    return strength * jax.image.resize(coarse, (side, side, 3), "linear")


def _distractors(key: jax.Array, others: jax.Array, side: int) -> jax.Array:
    """Strokes and digits that the edges cut off: ``(side, side, 1)`` in [0, 1]."""
    stroke_key, neighbor_key = jax.random.split(key)
    half = (side // 2, side // 2)
    areas = (side // 64) ** 2
    canvas = jnp.zeros((*half, 1), others.dtype)
    canvas = clutter(stroke_key, canvas, others, STROKES * areas)
    margin = np.array(others.shape[1:3])
    canvas = jnp.pad(canvas, ((margin[0],) * 2, (margin[1],) * 2, (0, 0)))
    for key in jax.random.split(neighbor_key, NEIGHBORS * areas):
        canvas = _cut_off(key, canvas, others)
    canvas = canvas[margin[0] : -margin[0], margin[1] : -margin[1]]
    return jax.image.resize(canvas, (side, side, 1), "linear")


def _cut_off(key: jax.Array, canvas: jax.Array, others: jax.Array) -> jax.Array:
    """Paste a digit across an edge, so that half of it or more lies outside.

    The canvas has a margin of one digit around the visible part.
    """
    which_key, edge_key, along_key, out_key = jax.random.split(key, 4)
    other = others[jax.random.randint(which_key, (), 0, len(others))]
    size = np.array(other.shape[:2])
    visible = np.array(canvas.shape[:2]) - 2 * size
    beyond = jax.random.randint(out_key, (2,), size // 2, size)
    along = jax.random.randint(along_key, (2,), 0, visible + size)
    first, last = size - beyond, visible + beyond
    edge = jax.random.randint(edge_key, (), 0, 4)
    across = jnp.where(edge % 2, first, last)
    y = jnp.where(edge < 2, across[0], along[0])
    x = jnp.where(edge < 2, along[1], across[1])
    return paste(canvas, other, y, x)

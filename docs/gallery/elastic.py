"""
Affine and elastic with one resampling
======================================

An image is rotated, then bent. Done in two calls, it is sampled twice, and each
sampling blurs. :class:`~stn_jax.transforms.Chain` composes the two and samples once.
Labels take the same way: a mask by ``method="nearest"``, key points by
:func:`~stn_jax.invert_points`.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_sample_image

from stn_jax import from_rotation, invert_points, to_normalized, to_pixels, warp
from stn_jax.drawing import draw_grid, draw_image
from stn_jax.transforms import Affine, Chain, Displacement

flower = load_sample_image("flower.jpg")[60:380, 150:470].astype("float32") / 255
flower = flower.reshape(160, 2, 160, 2, 3).mean(axis=(1, 3))
size = flower.shape[:2]
mask = (flower[..., :1] > 0.55).astype("uint8")
key_points = np.array([[82, 80], [82, 22], [142, 80], [82, 137], [26, 80]])  # (x, y)

elastic = Displacement((6, 6))
family = Chain(Affine(), elastic)
bends = jax.random.uniform(
    jax.random.key(3), (3, elastic.num_params), minval=-0.08, maxval=0.08
)
rotations = from_rotation(jnp.array([0.3, -0.3, 0.2]), size, zoom=0.8).reshape(3, 6)
params = jnp.concatenate([rotations, bends], axis=-1)

once = warp(flower, family, params)
twice = warp(warp(flower, Affine(), rotations), elastic, bends)
masks = warp(mask, family, params, method="nearest")
landed, is_found = invert_points(family, params, to_normalized(key_points, size))
landed = to_pixels(landed, size)

figure, axes = plt.subplots(2, 4, figsize=(8, 4.4), layout="constrained")
draw_image(flower, axes=axes[0, 0]).axes.set_title("image")
draw_grid(family.grid(params[0], size), size, axes=axes[0, 0])
draw_image(mask * 255, axes=axes[1, 0]).axes.set_title("mask")
pictures = [(flower, mask, key_points), *zip(once, masks, landed, strict=True)]
for column, (picture, labels, points) in zip(axes.T, pictures, strict=True):
    if points is not key_points:
        draw_image(picture, axes=column[0])
        draw_image(labels * 255, axes=column[1])
    for panel in column:
        panel.plot(
            *points.T, "o", color="#00ffff", markeredgecolor="black", markersize=5
        )
        panel.set(xlim=(-0.5, 159.5), ylim=(159.5, -0.5))

# %%
# Details, four times larger. Two samplings lose more of the fine structure than one.

detail = slice(60, 100)
figure, axes = plt.subplots(1, 2, figsize=(8, 4.2), layout="constrained")
for panel, warped, title in zip(
    axes, (once, twice), ("sampled once", "sampled twice"), strict=True
):
    draw_image(warped[0, detail, detail], axes=panel).axes.set_title(title)

# %%
# Fine structure is what a small blur removes. Sampling once keeps more of it. Both ways
# agree where the picture is smooth, so the chain is the same transformation.
#
# The photograph is scikit-learn's ``flower.jpg``, from flickr.com/photos/vultilion,
# CC BY 2.0.


def fine_structure(images):
    """The energy of differences between neighboring pixels, in the middle."""
    middle = np.asarray(images)[:, 40:120, 40:120]
    return np.square(np.diff(middle, axis=1)).sum()


def at_points(images):
    """The colors at the key points."""
    x, y = np.moveaxis(np.asarray(landed).round().astype(int), -1, 0)
    return np.asarray(images)[np.arange(3)[:, None], y, x]


assert is_found.all()
assert np.abs(once - twice).mean() < 0.02
assert fine_structure(once) > 1.1 * fine_structure(twice)
at = np.asarray(key_points).T
assert np.mean(at_points(masks) == mask[at[1], at[0]]) > 0.9

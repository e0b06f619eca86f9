"""
Affine and elastic with one resampling
======================================

Three random copies of a photograph, of its label mask and of its key points.
:class:`~stn_jax.transforms.Chain` composes an affine and an elastic map, so that each
copy is sampled once. The mask takes the same parameters with ``method="nearest"``.
:func:`~stn_jax.invert_points` finds where the key points land.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import binary_fill_holes
from sklearn.datasets import load_sample_image

from stn_jax import from_rotation, invert_points, to_normalized, to_pixels, warp
from stn_jax.drawing import draw_image
from stn_jax.transforms import Affine, Attention, Chain, Displacement

photograph = load_sample_image("flower.jpg")[62:382, 147:467].astype("float32") / 255
size = (160, 160)
image = warp(
    photograph, Attention(), Attention().identity, size, antialias=True, outside="fill"
)
labels = binary_fill_holes(image[..., 0] > 0.45)[..., None].astype("uint8")  # 1: flower
# (x, y) in pixels: the middle of the flower, petals, and a place beside it
key_points = np.array([[81, 78], [84, 17], [142, 82], [78, 141], [17, 86], [22, 20]])

affine, elastic = Affine(), Displacement((6, 6))
family = Chain(affine, elastic)  # warped by the first, then by the second


def random_params(key, count):
    """Parameters of the chain: those of the affine map, then of the elastic one."""
    turn, scale, bend = jax.random.split(key, 3)
    angles = jax.random.uniform(turn, (count,), minval=-0.6, maxval=0.6)  # radians
    zooms = jax.random.uniform(scale, (count, 2), minval=0.75, maxval=1.05)
    of_affine = from_rotation(angles, size, zoom=zooms).reshape(count, 6)
    of_elastic = 0.05 * jax.random.normal(bend, (count, elastic.num_params))
    return jnp.concatenate([of_affine, of_elastic], axis=-1)


params = random_params(jax.random.key(0), 3)
copies = warp(image, family, params)
masks = warp(labels, family, params, method="nearest")
points = to_normalized(key_points, size)
landed, is_found = invert_points(family, params, jnp.tile(points, (3, 1, 1)))
places = to_pixels(landed, size)

figure, axes = plt.subplots(2, 4, figsize=(8, 4.4), layout="constrained")
titles = ["photograph", "copy 1", "copy 2", "copy 3"]
pictures, label_masks = [image, *copies], [labels, *masks]
for i, at in enumerate([key_points, *places]):
    draw_image(pictures[i], axes=axes[0, i]).axes.set_title(titles[i])
    draw_image(label_masks[i], axes=axes[1, i])
    for panel in axes[:, i]:
        panel.scatter(*at.T, c=range(len(at)), cmap="Set1", edgecolors="white", s=40)

# %%
# Warped in two steps, first affine and then elastic, a copy shows the same map. But the
# second sampling blurs once more. The panels show the middle of copy 2.

affine_copies = warp(image, affine, params[:, : affine.num_params])
two_steps = warp(affine_copies, elastic, params[:, affine.num_params :])

middle = np.s_[:, 40:120, 40:120]
figure, panels = plt.subplots(1, 2, figsize=(8, 4.3), layout="constrained")
draw_image(copies[middle][1], axes=panels[0]).axes.set_title("one resampling")
draw_image(two_steps[middle][1], axes=panels[1]).axes.set_title("two resamplings")

# %%
# The square of the Laplacian measures the finest details. The second sampling removes
# more than a quarter of them in each copy.
#
# A copy's mask is the mask of the copy: at least 98% of the pixels agree with the
# threshold that made the labels. At the key points the labels stay the same. And a
# spot, painted around a key point and warped, has its maximum within a pixel of the
# place that ``invert_points`` found.
#
# The photograph is scikit-learn's ``flower.jpg``, from flickr.com/photos/vultilion,
# CC BY 2.0.


def details(pictures):
    """The mean square of the Laplacian of each picture."""
    down, right = (jnp.diff(pictures, n=2, axis=axis) for axis in (1, 2))
    return jnp.mean((down[:, :, 1:-1] + right[:, 1:-1]) ** 2, axis=(1, 2, 3))


def values_at(pictures, places):
    """The values of the first channel at the pixels nearest to places."""
    x, y = np.moveaxis(np.round(places).astype(int), -1, 0)
    return np.asarray(pictures)[np.arange(3)[:, None], y, x, 0]


y, x = np.mgrid[:160, :160]
pixels = np.stack([x, y], axis=-1).reshape(-1, 2)
distances = np.linalg.norm(pixels[:, None] - key_points, axis=-1)
spots = jnp.exp(-((distances / 4) ** 2)).reshape(*size, len(key_points))
maxima = warp(spots, family, params).reshape(3, -1, len(key_points)).argmax(axis=1)

assert (details(two_steps[middle]) < 0.75 * details(copies[middle])).all()
assert ((copies[..., :1] > 0.45) == masks).mean() > 0.98
assert (values_at(masks, places) == [1, 1, 1, 1, 1, 0]).all()
assert is_found.all()
assert np.abs(pixels[maxima] - places).max() < 1

"""
Padding modes side by side
==========================

What a sampler returns beyond the edges of an image. Each panel zooms out of the same
flower, and the outline shows where the image ends. ``padding_mode`` extends the image
over all integers, and the sampler interpolates the extended image. Each axis can have
a mode of its own, in image order.
"""

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_sample_image

from stn_jax import Sampler, affine_grid, identity_grid, sample
from stn_jax.drawing import draw_image, draw_outline

photograph = load_sample_image("flower.jpg").astype("float32") / 255
flower = photograph[76:370:6, 168:460:6]  # small, to see its pixels
size = flower.shape[:2]
blue = (0.1, 0.3, 0.8)
samplers = [
    Sampler(padding_mode="zeros"),
    Sampler(padding_mode="constant", fill_value=blue),
    Sampler(padding_mode="border"),
    Sampler(padding_mode="reflection"),
    Sampler(padding_mode="wrap"),
    Sampler(padding_mode=("border", "wrap")),
]

zoom_out = affine_grid(2.5 * jnp.eye(2, 3), (320, 320))
figure, axes = plt.subplots(3, 2, figsize=(7, 10.5), layout="constrained")
for panel, sampler in zip(axes.flat, samplers, strict=True):
    draw_image(sampler(flower, zoom_out), axes=panel)
    panel.set_title(sampler.padding_mode)
    # where the image is in this picture: the inverse of the zoom
    draw_outline(identity_grid(size) / 2.5, (320, 320), axes=panel)

# %%
# Sampled at integers, in pixel coordinates, the extended image is the one of
# ``numpy.pad``, which has other names for the modes, bit for bit.
#
# The photograph is scikit-learn's ``flower.jpg``, from flickr.com/photos/vultilion,
# CC BY 2.0.

names = {
    "zeros": "constant",
    "border": "edge",
    "reflection": "symmetric",
    "wrap": "wrap",
}
y, x = np.mgrid[-30 : size[0] + 30, -30 : size[1] + 30].astype("float32")
around = np.stack([x, y], axis=-1)


def extended(rows, columns):
    tall = np.pad(flower, [(30, 30), (0, 0), (0, 0)], mode=names[rows])
    return np.pad(tall, [(0, 0), (30, 30), (0, 0)], mode=names[columns])


assert all(
    np.array_equal(
        sample(flower, around, padding_mode=(rows, columns), coordinates="pixel"),
        extended(rows, columns),
    )
    for rows in names
    for columns in names
)

"""
Padding modes side by side
==========================

What a sampler returns beyond the edges of an image. Each panel zooms out of the same
flower, and the outline shows where the image ends. ``padding_mode`` extends the image
over all integers, and the sampler interpolates the extended image. ``outside="fill"``
cuts at the edge instead of blending into the fill value.
"""

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_sample_image

from stn_jax import Sampler, affine_grid, identity_grid, sample
from stn_jax.drawing import draw_image, draw_outline

photograph = load_sample_image("flower.jpg").astype("float32") / 255
flower = photograph[76:370, 168:460:][::6, ::6]  # small, to see its pixels
size = flower.shape[:2]
blue = (0.1, 0.3, 0.8)
samplers = {
    "zeros": Sampler(padding_mode="zeros"),
    "constant, fill_value=(0.1, 0.3, 0.8)": Sampler(
        padding_mode="constant", fill_value=blue
    ),
    "border": Sampler(padding_mode="border"),
    "reflection": Sampler(padding_mode="reflection"),
    "wrap": Sampler(padding_mode="wrap"),
    'zeros, outside="fill"': Sampler(outside="fill"),
}

zoom_out = affine_grid(2.5 * jnp.eye(2, 3), (320, 320))
figure, axes = plt.subplots(3, 2, figsize=(7, 10.5), layout="constrained")
for panel, (title, sampler) in zip(axes.flat, samplers.items(), strict=True):
    draw_image(sampler(flower, zoom_out), axes=panel).axes.set_title(title)
    # where the image is in this picture: the inverse of the zoom
    draw_outline(identity_grid(size) / 2.5, (320, 320), axes=panel)

# %%
# Sampled at integers, in pixel coordinates, the extended image is the one of
# ``numpy.pad``, which has other names for the modes.
#
# The photograph is scikit-learn's ``flower.jpg``, from flickr.com/photos/vultilion,
# CC BY 2.0.

y, x = np.mgrid[-30 : size[0] + 30, -30 : size[1] + 30].astype("float32")
around = np.stack([x, y], axis=-1)
names = {"border": "edge", "reflection": "symmetric", "wrap": "wrap"}
extended = {
    name: np.pad(flower, [(30, 30), (30, 30), (0, 0)], mode=mode)
    for name, mode in {"zeros": "constant", **names}.items()
}
assert all(
    np.array_equal(
        sample(flower, around, padding_mode=name, coordinates="pixel"), image
    )
    for name, image in extended.items()
)

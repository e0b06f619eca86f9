"""
Aliasing and antialiasing
=========================

A photograph shrunk to an eighth. Bilinear sampling weighs the four pixels around each
sample point. So it takes one pixel in sixteen and drops the others: tiles and leaves
turn into noise. With ``antialias=True``, :func:`~stn_jax.warp` widens the kernel by the
scale of the warp, and every pixel counts.
"""

import jax
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_sample_image

from stn_jax import warp
from stn_jax.drawing import draw_image
from stn_jax.transforms import Attention

photograph = load_sample_image("china.jpg")[:424].astype("float32") / 255
family = Attention()  # scale and translation; at the identity the whole photograph
small = (424 // 8, 640 // 8)


def shrink(image, antialias):
    return warp(
        image, family, family.identity, small, antialias=antialias, outside="fill"
    )


aliased, antialiased = (shrink(photograph, antialias) for antialias in (False, True))

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.9), layout="constrained")
draw_image(aliased, axes=left).axes.set_title("bilinear")
draw_image(antialiased, axes=right).axes.set_title("antialias=True")

# %%
# The gradient of the sum of the small picture is the total weight of each pixel of the
# photograph. Without antialiasing one pixel in sixteen has a weight, with it every one.
# The means of 8 x 8 pixels are the picture without aliasing: antialiasing takes more
# than two thirds of the distance to it.
#
# The photograph is scikit-learn's ``china.jpg``, from flickr.com/photos/danielbuechele,
# CC BY 2.0.


def share_of_pixels(antialias):
    weights = jax.grad(lambda image: shrink(image, antialias).sum())(photograph)
    return (np.abs(weights) > 1e-6).mean()


def error(picture):
    ideal = photograph.reshape(small[0], 8, small[1], 8, 3).mean(axis=(1, 3))
    return np.sqrt(np.mean((picture - ideal) ** 2))


assert share_of_pixels(False) == 1 / 16
assert share_of_pixels(True) == 1
assert error(antialiased) < 0.3 * error(aliased)

"""
Kernels and their frequency responses
=====================================

The middle of a flower, magnified eight times by kernels of more and more pixels. Beside
each picture are the kernel's weights by distance, and its frequency response. The ideal
response, dashed, keeps all waves up to half a cycle per pixel, and none above. A
response below 1 on the left blurs; one above 0 on the right shows the lattice of the
pixels.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_sample_image

from stn_jax import warp
from stn_jax.drawing import draw_image, draw_kernel, draw_response
from stn_jax.transforms import Attention

photograph = load_sample_image("flower.jpg").astype("float32") / 255
middle = photograph[215:235, 300:320]  # 20 x 20 pixels
family = Attention()
methods = ("nearest", "bilinear", "catmull_rom", "lanczos3", "bspline5")

figure, axes = plt.subplots(5, 3, figsize=(8, 12), layout="constrained")
distances = []  # of each response from the ideal one
for (left, center, right), method in zip(axes, methods, strict=True):
    magnified = warp(
        middle,
        family,
        family.identity,
        (160, 160),
        method=method,
        padding_mode="border",
    )
    draw_image(magnified, axes=left).axes.set_ylabel(method)
    draw_kernel(method, axes=center)
    frequency, response = draw_response(method, axes=right).get_data()
    ideal = frequency <= 0.5
    right.plot(frequency, ideal, "k--", linewidth=0.8)
    distances.append(np.abs(response - ideal).mean())
    center.set(ylim=(-0.3, 1.1), xticks=range(-4, 5, 2))
    right.set(ylim=(0, 1.1), xticks=[0, 0.5, 1, 1.5, 2])
axes[0, 0].set_title("8x")
axes[0, 1].set_title("weight by pixels")
axes[0, 2].set_title("response by cycles/pixel")

# %%
# Each kernel is closer to the ideal response than the one above it. All keep a constant
# image as it is: their response at 0 is 1.
#
# The photograph is scikit-learn's ``flower.jpg``, from flickr.com/photos/vultilion,
# CC BY 2.0.

at_zero = [panel.lines[0].get_ydata()[0] for panel in axes[:, 2]]
assert np.allclose(at_zero, 1, atol=1e-3)
assert distances == sorted(distances, reverse=True)

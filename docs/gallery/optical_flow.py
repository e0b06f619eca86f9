"""
Optical flow with a mask
========================

A flower moves to the right, and the camera approaches the tower behind it. Both motions
are synthetic, so the flow of each pixel is known. :func:`~stn_jax.flow_grid` warps
frame 2 back to frame 1. Two kinds of pixels have no source in frame 2: those that leave
the frame, and those that the flower hides. One mask finds each kind.
"""

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_sample_image

from stn_jax import flow_grid, inside, sample, warp
from stn_jax.drawing import draw_flow, draw_image
from stn_jax.transforms import Attention

tower = load_sample_image("china.jpg").astype("float32") / 255
flower = load_sample_image("flower.jpg")[81:361, 167:447].astype("float32") / 255
flower = warp(
    flower, Attention(), Attention().identity, (96, 96), antialias=True, outside="fill"
)
size = (240, 320)
pixels = np.stack(np.mgrid[:240, :320][::-1], axis=-1).astype("float32")  # (x, y)


class Motion:
    """A linear map about a point that moves, from frame 1 to frame 2, in pixels."""

    def __init__(self, linear, old, new):
        self.linear, self.old, self.new = np.float32(linear), old, new

    def __call__(self, points):
        return (points - np.float32(self.old)) @ self.linear.T + np.float32(self.new)

    def inverse(self):
        return Motion(np.linalg.inv(self.linear), self.new, self.old)


of_tower = Motion([[1.1, 0], [0, 1.1]], (160, 120), (152, 116))
of_flower = Motion([[0.94, -0.34], [0.34, 0.94]], (90, 125), (140, 135))  # also turns


def scene(at_tower, at_flower):
    """A frame and the mask of its flower, from points of frame 1 for each of both."""
    options = {"method": "bicubic", "coordinates": "pixel"}
    behind = sample(tower, at_tower + np.float32([90, 60]), **options)
    before = sample(flower, at_flower + np.float32([-42.5, -77.5]), **options)
    mask = rim_distance(at_flower)[..., None] < 0
    return np.where(mask, before, behind), mask


def rim_distance(points):
    """The distance of points of frame 1 from the flower's rim, negative inside."""
    return np.linalg.norm(points - np.float32(of_flower.old), axis=-1) - 44


frame1, mask1 = scene(pixels, pixels)
frame2, mask2 = scene(of_tower.inverse()(pixels), of_flower.inverse()(pixels))
flow12 = np.where(mask1, of_flower(pixels), of_tower(pixels)) - pixels
flow21 = (
    np.where(mask2, of_flower.inverse()(pixels), of_tower.inverse()(pixels)) - pixels
)

# %%
# The grid of the flow from 1 to 2 samples frame 2. :func:`~stn_jax.inside` marks the
# pixels that stay in the frame. The same grid also samples the flow from 2 to 1. Where
# a pixel is visible in both frames, that flow leads back, and the two add up to zero.
# Where the flower hides the pixel, it is the flower's flow, and they do not.

grid = flow_grid(flow12)
warped = sample(frame2, grid, method="bicubic", outside="fill")
stays = inside(grid, size)
round_trip = flow12 + sample(flow21, grid, padding_mode="border")
is_hidden = stays & (jnp.linalg.norm(round_trip, axis=-1) > 1)  # by over a pixel
is_valid = stays & ~is_hidden
error = jnp.abs(warped - frame1).mean(axis=-1)

masks = np.where(stays[..., None], frame1, [0.1, 0.3, 0.9])
masks = np.where(is_hidden[..., None], [0.9, 0.1, 0.1], masks)
pictures = {
    "frame 1 and its flow": frame1,
    "frame 2": frame2,
    "frame 2, warped to frame 1": warped,
    "masks: outside (blue), hidden (red)": masks,
    "error x 4": 4 * error[..., None],
    "error x 4, masked": 4 * (error * is_valid)[..., None],
}
figure, axes = plt.subplots(3, 2, figsize=(8, 9.6), layout="constrained")
for panel, (title, picture) in zip(axes.flat, pictures.items(), strict=True):
    draw_image(picture, axes=panel).axes.set_title(title)
draw_flow(flow12, axes=axes[0, 0])

# %%
# The second mask finds all pixels that the flower hides. Nine tenths of what it marks
# is hidden, and the rest lies within two pixels of the flower's rim, where the sampled
# flow is a mean of both. The error that remains is the one of sampling twice.
#
# The photographs are scikit-learn's ``china.jpg`` and ``flower.jpg``, from
# flickr.com/photos/danielbuechele and flickr.com/photos/vultilion, CC BY 2.0.

in_frame1 = of_flower.inverse()(of_tower(pixels))  # of the flower that hides a pixel
truth = stays & ~mask1[..., 0] & (rim_distance(in_frame1) < 0)
from_rim = np.minimum(np.abs(rim_distance(pixels)), np.abs(rim_distance(in_frame1)))

assert (is_hidden & truth).sum() > 0.98 * truth.sum()
assert (is_hidden & truth).sum() > 0.9 * is_hidden.sum()
assert from_rim[is_hidden & ~truth].max() < 2
assert error[is_valid].mean() < 0.02 < 0.3 < error[~is_valid].mean()

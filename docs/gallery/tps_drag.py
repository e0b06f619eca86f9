"""
Thin plate splines by dragging points
=====================================

Four points of a tower are dragged, and eight points on the frame are pinned. Of all
smooth maps through these twelve points, the thin plate spline bends least. A sampling
grid maps output to input. So :func:`~stn_jax.tps_grid` gets the new places as its
target points, and the old ones as its control points.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.interpolate import RBFInterpolator
from sklearn.datasets import load_sample_image

from stn_jax import (
    fit_tps,
    identity_grid,
    invert_points,
    sample,
    to_normalized,
    to_pixels,
    tps_grid,
)
from stn_jax.drawing import draw_grid, draw_image
from stn_jax.transforms import ThinPlateSpline

photograph = load_sample_image("china.jpg")[:421, :421].astype("float32") / 255
size = photograph.shape[:2]

# (x, y) in pixels: the top of the tower and three corners of its roofs
old = np.array([[205, 36], [98, 128], [318, 122], [350, 258]])
new = np.array([[205, 16], [55, 75], [365, 70], [390, 300]])
y, x = np.mgrid[:421:210, :421:210]
frame = np.delete(np.stack([x, y], axis=-1).reshape(9, 2), 4, axis=0)  # no center
before, after = np.concatenate([old, frame]), np.concatenate([new, frame])
source, target = to_normalized(before, size), to_normalized(after, size)

grid = tps_grid(source, size, target_points=target)
dragged = sample(photograph, grid, padding_mode="border")

figure, axes = plt.subplots(1, 2, figsize=(8, 4.3), layout="constrained")
draw_image(photograph, axes=axes[0])
draw_grid(grid, size, axes=axes[0])
draw_image(dragged, axes=axes[1])
draw_grid(identity_grid(size), size, axes=axes[1])
axes[0].quiver(
    *old.T,
    *(new - old).T,
    angles="xy",
    scale_units="xy",
    scale=1,
    color="red",
    zorder=3,
)
for panel, points, title in zip(axes, (old, new), ("before", "after"), strict=True):
    panel.plot(*points.T, "o", color="white", markeredgecolor="red", markersize=7)
    panel.plot(*frame.T, "s", color="white", markeredgecolor="black", markersize=7)
    panel.set(title=title, xlim=(-9, 429), ylim=(429, -9))

# %%
# The straight lines on the right are sampled at the bent lines on the left. At the new
# place of a dragged point the grid holds its old place, and at each corner the corner
# itself. The grid does not fold: all its cells have a positive area. SciPy's
# ``RBFInterpolator`` gives the same spline.
#
# :func:`~stn_jax.fit_tps` evaluates the same spline at a lattice. The values are
# parameters of :class:`~stn_jax.transforms.ThinPlateSpline`, and
# :func:`~stn_jax.invert_points` finds where a point of the photograph lands. The finer
# the lattice, the closer the dragged points come to their new places.
#
# The photograph is scikit-learn's ``china.jpg``, from flickr.com/photos/danielbuechele,
# CC BY 2.0.


def largest_error(rows):
    """How far from its new place a point lands, in pixels, with a lattice."""
    family = ThinPlateSpline((rows, rows))
    params = fit_tps(source, target, lattice=family.shape).reshape(-1)
    landed, is_found = invert_points(family, params, source)
    assert is_found.all()
    return np.abs(to_pixels(landed, size) - after).max()


pixels = np.asarray(to_pixels(grid, size))
right, down = np.diff(pixels, axis=1)[:-1], np.diff(pixels, axis=0)[:, :-1]
areas = right[..., 0] * down[..., 1] - right[..., 1] * down[..., 0]
spline = RBFInterpolator(after, before, kernel="thin_plate_spline")
some = np.random.default_rng(0).integers(421, size=(1000, 2))  # (x, y)

assert np.allclose(pixels[some[:, 1], some[:, 0]], spline(some), atol=0.05)
assert np.allclose(pixels[after[:, 1], after[:, 0]], before, atol=0.01)
assert areas.min() > 0.1
assert largest_error(12) < 2 < 5 < largest_error(6)

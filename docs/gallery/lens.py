"""
A photograph through a lens
===========================

A lens moves each point along its radius: from r to r (1 + k1 r² + k2 r⁴). Straight
lines become curves. We define this family, find its two coefficients from a card of
dots whose rows and columns are straight, and straighten a photograph.

In the picture, left: through the lens. On the photograph is the lattice that the
straightened one samples. Right: straightened. The lines join the detected dots.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from scipy import ndimage
from sklearn.datasets import load_sample_image

from stn_jax import identity_grid, invert_points, sample, to_normalized, to_pixels, warp
from stn_jax.drawing import draw_grid, draw_image

photograph = load_sample_image("china.jpg").astype("float32") / 255
size = (427, 640)


class Lens:
    """From points of the straight picture (output) to the lens's picture (input).

    The radius is 1 at the middle of the left and the right edge.
    """

    num_params = 2  # k1, k2
    identity = jnp.zeros(2)

    def __init__(self, aspect):
        self.aspect = aspect  # width / height

    def apply(self, params, points):
        squared = points[..., 0] ** 2 + (points[..., 1] / self.aspect) ** 2
        k1, k2 = params[..., :1], params[..., 1:]
        return points * (1 + k1 * squared + k2 * squared**2)[..., None]

    def grid(self, params, size, *, align_corners=False):
        grid = identity_grid(size, align_corners=align_corners)
        points = self.apply(params, grid.reshape(-1, 2))
        return points.reshape(*params.shape[:-1], *size, 2)


lens = Lens(640 / 427)

# %%
# We simulate the camera, with coefficients that the calibration does not get. It takes
# the photograph, and a card of 9 x 13 dots. A pixel of its picture shows the point that
# the lens moves there. This is the inverse of the family, for which there is no
# formula; :func:`~stn_jax.invert_points` finds it.

truth = jnp.array([-0.25, 0.05])
pixels = identity_grid(size).reshape(-1, 2)
shown, is_found = invert_points(lens, truth, pixels)
through_lens = shown.reshape(*size, 2)

y, x = np.mgrid[:427, :640]
to_dot = np.hypot((x - 320 + 24) % 48 - 24, (y - 213 + 24) % 48 - 24)
card = np.clip(6.5 - to_dot, 0, 1).astype("float32")[..., None]
noise = 0.02 * jax.random.normal(jax.random.key(0), card.shape)
picture_of_card = sample(card, through_lens) + noise
picture = sample(photograph, through_lens)

# %%
# SciPy finds the centers of the dots. Sorted, they form rows and columns.

plane = np.asarray(picture_of_card[..., 0])
labels, count = ndimage.label(plane > 0.3)
centers = ndimage.center_of_mass(plane, labels, range(1, count + 1))  # y, x
in_rows = np.array(sorted(centers)).reshape(9, 13, 2)
by_x = np.argsort(in_rows[..., 1:], axis=1)
dots = to_normalized(np.take_along_axis(in_rows, by_x, axis=1)[..., ::-1], size)


def bends(lines):
    """The distances of points ``(n, m, 2)`` from the straight line through each row."""
    x, y = jnp.moveaxis(lines - lines.mean(axis=1, keepdims=True), -1, 0)
    slope = (x * y).sum(axis=1) / (x * x).sum(axis=1)
    return y - slope[:, None] * x


def straightened(params):
    """The dots in the straight picture, in pixels."""
    points, _ = invert_points(lens, params, dots.reshape(-1, 2))
    return to_pixels(points.reshape(dots.shape), size)


def mean_square(params):
    """Of the bends of all rows and columns, in square pixels."""
    rows = straightened(params)
    columns = rows.swapaxes(0, 1)[..., ::-1]
    return (bends(rows) ** 2).mean() / 2 + (bends(columns) ** 2).mean() / 2


# %%
# The calibration descends along the gradient, from a lens without distortion. The two
# coefficients have similar effects, so we use L-BFGS, which estimates the curvature
# from the gradients. The derivatives of ``invert_points`` are exact.

optimizer = optax.lbfgs()
value_and_gradient = optax.value_and_grad_from_state(mean_square)


def step(state, _):
    params, memory = state
    error, gradient = value_and_gradient(params, state=memory)
    update, memory = optimizer.update(
        gradient, memory, params, value=error, grad=gradient, value_fn=mean_square
    )
    return (optax.apply_updates(params, update), memory), jnp.sqrt(error)


@jax.jit
def calibrate(params):
    state = params, optimizer.init(params)
    (params, _), errors = jax.lax.scan(step, state, length=30)
    return params, errors


found, errors = calibrate(lens.identity)
straight = warp(picture, lens, found, method="bicubic")

# %%
# With the coefficients, the family straightens both pictures.

figure, axes = plt.subplots(2, 2, figsize=(8, 5.6), layout="constrained")
draw_image(picture_of_card, axes=axes[0, 0]).axes.set_title("through the lens")
draw_image(warp(picture_of_card, lens, found), axes=axes[0, 1])
axes[0, 1].set_title("straightened")
before_and_after = to_pixels(dots, size), straightened(found)
for panel, rows in zip(axes[0], before_and_after, strict=True):
    panel.plot(*jnp.moveaxis(rows, -1, 0), "#ffd500", linewidth=0.8)
    panel.plot(*rows.T, "#ffd500", linewidth=0.8)
draw_image(picture, axes=axes[1, 0])
draw_grid(lens.grid(found, size), size, step=80, axes=axes[1, 0])
draw_image(straight, axes=axes[1, 1])

# %%
# The coefficients are those of the camera, to 0.01. The dots are straight to a tenth of
# a pixel. The straightened photograph differs from the one before the lens by the
# sharpness that two samplings cost, the distorted one by much more.
#
# The photograph is scikit-learn's ``china.jpg``, from flickr.com/photos/danielbuechele,
# CC BY 2.0.


def difference(picture):
    middle = slice(20, -20), slice(20, -20)  # without the dark edge
    return np.abs(picture - photograph)[middle].mean()


print(f"k1, k2: {found.round(3)}")
print(f"bends: {errors[0]:.1f} pixels before the calibration, {errors[-1]:.2f} after")
print(f"difference: {difference(picture):.3f}, straightened {difference(straight):.3f}")
assert is_found.all()
assert count == 9 * 13
assert jnp.allclose(found, truth, atol=0.01)
assert errors[0] > 2
assert errors[-1] < 0.1
assert difference(straight) < difference(picture) / 3

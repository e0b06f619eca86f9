"""
A photograph through a lens, and its calibration
================================================

A lens bends the straight lines of a scene. The model is a family with two parameters:
a point at distance r from the center moves to r (1 + k1 r^2 + k2 r^4). L-BFGS finds
both from one fact: some points lie on straight lines in the scene. Then the family
straightens the photograph.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from sklearn.datasets import load_sample_image

from stn_jax import identity_grid, invert_points, sample, to_normalized, to_pixels, warp
from stn_jax.drawing import draw_image


@dataclass(frozen=True)
class Lens:
    """From the scene to the photograph: p (1 + k1 |p|^2 + k2 |p|^4)."""

    num_params: int = 2

    @property
    def identity(self):
        return jnp.zeros(2)

    def apply(self, params, points):
        k1, k2 = params[..., None, :1], params[..., None, 1:]
        squared = (points**2).sum(axis=-1, keepdims=True)
        return points * (1 + k1 * squared + k2 * squared**2)

    def grid(self, params, size, *, align_corners=False):
        points = identity_grid(size, align_corners=align_corners)
        return self.apply(params, points.reshape(-1, 2)).reshape(points.shape)


lens = Lens()
true = jnp.array([-0.15, 0.015])

# the scene: a photograph with white lines, and points on the lines, (lines, points, 2)
scene = load_sample_image("china.jpg")[:420, 110:530].astype("float32") / 255
size = scene.shape[:2]
places = np.arange(30, 420, 60)
for place in places:
    scene[place - 1 : place + 1] = scene[:, place - 1 : place + 1] = 1
lines = np.stack(np.meshgrid(places - 0.5, np.arange(10.0, 420, 40)), -1).swapaxes(0, 1)
lines = to_normalized(np.concatenate([lines, lines[..., ::-1]]), size)

# %%
# A sampling grid maps output to input: here from the photograph back to the scene. That
# is the inverse of the lens at each pixel, from :func:`~stn_jax.invert_points`. The
# points, as a detector would find them, get an error of 0.2 pixels.

pixels, is_found = invert_points(lens, true, identity_grid(size).reshape(-1, 2))
photograph = sample(scene, pixels.reshape(*size, 2), method="bicubic")
noise = 0.2 * np.random.default_rng(0).normal(size=lines.shape) / 210  # normalized
detected = lens.apply(true, lines.reshape(-1, 2)).reshape(lines.shape) + noise

# %%
# The loss takes the points back to the scene, and measures how far they are from their
# best line: the smaller eigenvalue of their covariance. Its gradient passes through
# ``invert_points`` by the implicit function theorem.


def deviation(params):
    """The root mean square distance of the points from their lines, in pixels."""
    points, _ = invert_points(lens, params, detected.reshape(-1, 2))
    points = points.reshape(detected.shape)
    centered = points - points.mean(axis=1, keepdims=True)
    covariance = jnp.einsum("lpi,lpj->lij", centered, centered) / points.shape[1]
    a, b, c = covariance[:, 0, 0], covariance[:, 0, 1], covariance[:, 1, 1]
    smaller = (a + c) / 2 - jnp.sqrt(((a - c) / 2) ** 2 + b**2 + 1e-12)
    return 210 * jnp.sqrt(smaller.mean())


def squared(params):
    return deviation(params) ** 2


optimizer = optax.lbfgs()


def descend(state, _):
    params, moments = state
    loss, slope = jax.value_and_grad(squared)(params)
    updates, moments = optimizer.update(
        slope, moments, params, value=loss, grad=slope, value_fn=squared
    )
    return (params + updates, moments), jnp.sqrt(loss)


start = lens.identity, optimizer.init(lens.identity)
(params, _), losses = jax.jit(lambda s: jax.lax.scan(descend, s, length=15))(start)
straight = warp(photograph, lens, params, method="bicubic")

figure, axes = plt.subplots(1, 2, figsize=(8, 4.2), layout="constrained")
shown = to_pixels(detected, size)[::3]
draw_image(photograph, axes=axes[0]).axes.set_title("through the lens")
axes[0].plot(*shown.reshape(-1, 2).T, "o", color="red", markersize=2.5)
draw_image(straight, axes=axes[1]).axes.set_title("straightened")

figure, axes = plt.subplots(figsize=(8, 2.6), layout="constrained")
axes.semilogy(losses)
axes.axhline(0.2, color="gray", linestyle="--")
axes.text(14, 0.21, "error of the points", color="gray", ha="right", va="bottom")
axes.set(xlabel="step", ylabel="deviation from lines, pixels")

# %%
# The parameters are those of the lens, to within what the error of the points allows. A
# point of the scene that is taken through the true lens and back through the found one
# returns to within a pixel.
#
# The photograph is scikit-learn's ``china.jpg``, from flickr.com/photos/danielbuechele,
# CC BY 2.0. The lines are painted on, and the lens is synthetic.

returned, _ = invert_points(lens, params, lens.apply(true, lines.reshape(-1, 2)))
error = 210 * np.linalg.norm(returned - lines.reshape(-1, 2), axis=-1)
assert is_found.all()
assert losses[0] > 3
assert losses[-1] < 0.25
assert error.max() < 1

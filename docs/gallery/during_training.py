"""
Where the transformer looks during training
===========================================

Digits are rotated, scaled and shifted. A transformer stands before a linear classifier,
and both are trained together, on the classes alone. At the start its window is the
whole canvas. During the training the windows turn to the digits, and shrink to them.

In the picture are three digits that are not in the training, with the outlines of their
windows. Below each is what the classifier gets. The title is the step, and the share of
all new digits that are classified correctly.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import nnx
from matplotlib.animation import FuncAnimation
from sklearn.datasets import load_digits

from stn_jax import drawing, warp
from stn_jax.nnx import DenseLocalization, SpatialTransformer
from stn_jax.transforms import Similarity

digits = load_digits()
order = np.random.default_rng(0).permutation(len(digits.images))
images = jnp.asarray(digits.images[order], jnp.float32)[..., None] / 16
classes = jnp.asarray(digits.target[order])
train, test = slice(0, 1400), slice(1400, None)
canvas, window = (24, 24), (12, 12)
family = Similarity()  # scale, angle, translation


@jax.jit
def distorted(key, images):
    """Put each digit on a canvas. Return the canvases, and the place of each digit."""
    random = jax.random.uniform(key, (len(images), 4), minval=-1)
    # a window on the digit: half to 0.7 of the canvas, 60 degrees, 3.6 pixels
    places = jnp.array([0.6, 0, 0, 0]) + jnp.array([0.1, jnp.pi / 3, 0.3, 0.3]) * random
    return warp(images, family, family.inverse(places), canvas), places


class Classifier(nnx.Module):
    def __init__(self, rngs):
        net = DenseLocalization((*canvas, 1), hidden=(128, 64), rngs=rngs)
        self.transformer = SpatialTransformer(
            net, family, window, features=net.features, rngs=rngs
        )
        self.logits = nnx.Linear(144, 10, rngs=rngs)

    def __call__(self, images):
        return self.logits(self.transformer(images).reshape(len(images), 144))


# %%
# We train for 400 steps. Before every 16th, and at the end, we keep the parameters that
# the transformer predicts for digits that are not in the training.

model = Classifier(nnx.Rngs(0))
optimizer = nnx.Optimizer(model, optax.adam(3e-3), wrt=nnx.Param)
new, places = distorted(jax.random.key(2), images[test])


@nnx.jit
def train_step(model, optimizer, key):
    pick, put = jax.random.split(key)
    chosen = jax.random.randint(pick, (128,), 0, 1400)
    batch, _ = distorted(put, images[chosen])

    def loss_of(model):
        loss = optax.softmax_cross_entropy_with_integer_labels
        return loss(model(batch), classes[chosen]).mean()

    optimizer.update(model, nnx.grad(loss_of)(model))


@nnx.jit
def predict(model):
    """The parameters of the new digits, and how many are classified correctly."""
    accuracy = (model(new).argmax(axis=-1) == classes[test]).mean()
    return model.transformer.localize(new), accuracy


steps = np.arange(0, 401, 16)
kept = [predict(model)]
for step, key in enumerate(jax.random.split(jax.random.key(1), 400), start=1):
    train_step(model, optimizer, key)
    if step in steps:
        kept.append(predict(model))
params, accuracy = (np.stack(column) for column in zip(*kept, strict=True))

# %%
# We draw six of the steps.

grids = np.asarray(family.grid(params[:, :4], window))  # (26, 4, 12, 12, 2)
warped = np.asarray(warp(new[:4], family, params[:, :4], window))
shown = (0, 2, 4, 6, 10, 25)  # these of the 26 that we kept
figure, axes = plt.subplots(6, 6, figsize=(8, 8.4), layout="constrained")
for column, k in zip(axes.T, shown, strict=True):
    column[0].set_title(f"{steps[k]}: {accuracy[k]:.0%}")
    for i in range(3):
        drawing.draw_image(new[i], axes=column[2 * i])
        drawing.draw_outline(grids[k, i], canvas, axes=column[2 * i])
        column[2 * i].set(xlim=(-6.5, 29.5), ylim=(29.5, -6.5), facecolor="#303048")
        drawing.draw_image(warped[k, i], axes=column[2 * i + 1])

# %%
# The same as an animation, with four digits. ``drawing.outline`` returns the points of
# the lines that ``draw_outline`` draws, so that each frame moves them.

small, panels = plt.subplots(2, 4, figsize=(5, 2.8), dpi=90, layout="constrained")
outlines, pictures = [], []
for i, panel in enumerate(panels[0]):
    drawing.draw_image(new[i], axes=panel)
    outlines.append(drawing.draw_outline(grids[0, i], canvas, axes=panel))
    pictures.append(drawing.draw_image(warped[0, i], axes=panels[1, i]))
    panel.set(xlim=(-6.5, 29.5), ylim=(29.5, -6.5), facecolor="#303048")


def draw_frame(k):
    for i in range(4):
        lines = drawing.outline(grids[k, i], canvas)
        for line, points in zip(outlines[i], lines, strict=True):
            line.set_data(*points.T)
        pictures[i].set_data(warped[k, i, ..., 0])
    small.suptitle(f"step {steps[k]}")


animation = FuncAnimation(small, draw_frame, frames=len(steps), interval=200)

# %%
# How upright are the new digits in their windows? A digit's place in its window is the
# window composed with the inverse of the digit's place on the canvas. We compare the
# spread of the angles within the classes.


def spread(angles):
    """The standard deviation of the angles within a class, in degrees."""
    deviations = [angles[classes[test] == c].std() for c in range(10)]
    return np.rad2deg(deviations).mean()


composed = family.compose(family.inverse(places), params[[0, -1]])
before, after = (spread(angles) for angles in np.asarray(composed[..., 1]))
print(f"spread of the angles: {before:.0f} degrees, at the end {after:.0f}")
print(
    f"new digits classified correctly: {accuracy[0]:.0%}, at the end {accuracy[-1]:.0%}"
)
assert after < before / 2
assert accuracy[-1] > 0.8

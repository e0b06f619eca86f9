"""
A transformer in sixty seconds
==============================

A digit of 8 x 8 pixels lies anywhere on a canvas of 24 x 24. A linear classifier sees
only 10 x 10 pixels of it. The transformer chooses which: its network predicts the place
of the window. Nobody tells it where the digits are. It learns their places from their
classes, since the gradient of the classifier's loss passes through the sampler.

In the picture, above: the canvas, and the window that the transformer chose. Below:
what the classifier gets.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import nnx
from sklearn.datasets import load_digits

from stn_jax import warp
from stn_jax.drawing import draw_image, draw_outline
from stn_jax.nnx import DenseLocalization, SpatialTransformer
from stn_jax.transforms import Attention

digits = load_digits()
order = np.random.default_rng(0).permutation(len(digits.images))
images = jnp.asarray(digits.images[order], jnp.float32)[..., None] / 16
classes = jnp.asarray(digits.target[order])
train, test = slice(0, 1400), slice(1400, None)
canvas, window = (24, 24), (10, 10)
place = Attention()  # a scale and a translation
crop = Attention(scale=10 / 24)  # the translation alone


@jax.jit
def scattered(key, images, reach=1.0):
    """Put each digit on a canvas. Return the canvases and the digits' centers."""
    centers = jax.random.uniform(key, (len(images), 2), minval=-2 / 3, maxval=2 / 3)
    centers *= reach  # 1: up to the edges of the canvas
    # a window of 8 x 8 pixels on the digit, and its inverse, which puts a digit there
    on_digit = jnp.insert(centers, 0, 8 / 24, axis=-1)
    return warp(images, place, place.inverse(on_digit), canvas), centers


class Classifier(nnx.Module):
    def __init__(self, rngs):
        net = DenseLocalization((*canvas, 1), hidden=(128, 64), rngs=rngs)
        self.transformer = SpatialTransformer(
            net, crop, window, features=net.features, rngs=rngs
        )
        self.logits = nnx.Linear(100, 10, rngs=rngs)

    def __call__(self, images):
        return self.logits(self.transformer(images).reshape(len(images), 100))


# %%
# The training. The digits start near the center and spread over the canvas during the
# first half, since a window that misses a digit has no gradient towards it.

model = Classifier(nnx.Rngs(0))
optimizer = nnx.Optimizer(model, optax.adam(3e-3), wrt=nnx.Param)


@nnx.jit
def train_step(model, optimizer, key, reach):
    pick, put = jax.random.split(key)
    chosen = jax.random.randint(pick, (128,), 0, 1400)
    batch, _ = scattered(put, images[chosen], reach)

    def loss_of(model):
        loss = optax.softmax_cross_entropy_with_integer_labels
        return loss(model(batch), classes[chosen]).mean()

    optimizer.update(model, nnx.grad(loss_of)(model))


for step, key in enumerate(jax.random.split(jax.random.key(1), 1000)):
    train_step(model, optimizer, key, jnp.minimum(step / 500, 1))

# %%
# Where does it look, on digits that it has not seen?

new, centers = scattered(jax.random.key(2), images[test])
params = model.transformer.localize(new)
found = model.transformer.warp(new, params)
grids = crop.grid(params, window)

figure, axes = plt.subplots(2, 6, figsize=(8, 2.8), layout="constrained")
for i, (above, below) in enumerate(axes.T):
    draw_image(new[i], axes=above)
    draw_outline(grids[i], canvas, axes=above)
    draw_image(found[i], axes=below)

# %%
# The distance from the window's center to the digit's says how well the digits are
# found. A constant offset is free, because the window is larger than a digit. So we
# compare standard deviations, in pixels: of the digits' places on the canvas, and of
# their places in the window.

before = 12 * centers.std(axis=0)  # 24 pixels are 2 normalized units
after = 12 * (centers - params).std(axis=0)
accuracy = (model(new).argmax(axis=-1) == classes[test]).mean()
print(f"deviation in x and y: {before.round(1)} pixels, in the window {after.round(1)}")
print(f"new digits classified correctly: {accuracy:.0%}")
assert jnp.all(after < before / 4)
assert accuracy > 0.75

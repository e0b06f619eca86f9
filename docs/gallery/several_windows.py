"""
Several transformers side by side
=================================

Each image shows two of scikit-learn's scanned digits, one in its left half and one in
its right half. The class is the pair. :class:`~stn_jax.nnx.ParallelSpatialTransformers`
samples two windows, and one classifier classifies both. It also learns from single
scans, in the middle of a window. The training does not get the places of the digits,
yet the windows learn to frame them.

The picture shows digits that are not in the training. Below each image are the contents
of both windows, in the left column before the training. The titles are the classes that
the classifier predicts.
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
from stn_jax.nnx import ConvLocalization, ParallelSpatialTransformers
from stn_jax.transforms import Attention, tiles, to_boxes

digits = load_digits()
order = np.random.default_rng(0).permutation(len(digits.images))
scans = jnp.asarray(digits.images[order], jnp.float32)[..., None] / 16
classes = jnp.asarray(digits.target[order])
size, window = (24, 24), (11, 11)
scale = 0.45  # of a window: 10.8 pixels of the image

# single scans, in the middle of a window
margin = jnp.array([scale * 24 / 8, 0, 0])
centered = warp(scans, Attention(), margin, window)


def placed(scan, corner):
    return jax.lax.dynamic_update_slice(jnp.zeros((*size, 1)), scan, (*corner, 0))


def draw_pairs(key, count, first, last, reach=1.0):
    """Images of two digits, their classes, and their upper left corners (y, x).

    The digits are chosen from ``scans[first:last]``. With ``reach=0`` they lie in the
    middle of their halves, with 1 anywhere within.
    """
    which, where = jax.random.split(key)
    chosen = jax.random.randint(which, (count, 2), first, last)
    free = jnp.array([17, 5])  # rows and columns that a corner can have within a half
    middle = (free - 1) / 2
    corners = middle + reach * (
        jax.random.randint(where, (count, 2, 2), 0, free) - middle
    )
    corners = jnp.round(corners).astype(int)
    corners += jnp.array([[0, 0], [0, 12]])  # the second digit is in the right half
    images = jax.vmap(jax.vmap(placed))(scans[chosen], corners).sum(axis=1)
    return images, classes[chosen], corners


class PairClassifier(nnx.Module):
    def __init__(self, rngs):
        net = ConvLocalization(
            (*size, 1), channels=(16, 32), kernel_size=3, hidden=128, rngs=rngs
        )
        family = Attention(scale=scale)
        start = tiles(family, (1, 2))  # one row, two columns
        self.windows = ParallelSpatialTransformers(
            net, family, start, window, features=net.features, rngs=rngs
        )
        self.logits = nnx.Sequential(
            nnx.Linear(121, 128, rngs=rngs), nnx.relu, nnx.Linear(128, 10, rngs=rngs)
        )

    def classify(self, windows):
        return self.logits(windows.reshape(*windows.shape[:-3], 121))

    def __call__(self, images):
        return self.classify(self.windows(images))  # (count, 2, 10)


# %%
# In the first half of the training the digits move away from the middle: a window that
# misses a digit has no gradient towards it.


@nnx.jit
def train_step(model, optimizer, key, reach):
    two, one = jax.random.split(key)
    images, labels, _ = draw_pairs(two, 64, 0, 1400, reach)
    single = jax.random.randint(one, (64,), 0, 1400)

    def loss_of(model):
        loss = optax.softmax_cross_entropy_with_integer_labels
        of_pairs = loss(model(images), labels)
        of_scans = loss(model.classify(centered[single]), classes[single])
        return of_pairs.mean() + of_scans.mean()

    gradients = nnx.grad(loss_of)(model)
    optimizer.update(model, gradients)


model = PairClassifier(nnx.Rngs(0))
optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)
images, labels, corners = draw_pairs(jax.random.key(2), 500, 1400, len(scans))
at_start = model.windows.localize(images)
for step, key in enumerate(jax.random.split(jax.random.key(1), 500)):
    train_step(model, optimizer, key, jnp.minimum(step / 250, 1))
params = model.windows.localize(images)

# %%
# Before and after the training, on new digits.

found = model(images).argmax(axis=-1)
figure, axes = plt.subplots(3, 6, figsize=(8, 4.5), layout="constrained")
columns = [(0, at_start), *((i, params) for i in range(5))]
for panels, (i, place) in zip(axes.T, columns, strict=True):
    draw_image(images[i], axes=panels[0])
    panels[0].set(xlim=(-3, 26), ylim=(26, -3), facecolor="#303048")
    panels[0].set_title("start" if place is at_start else "{}, {}".format(*found[i]))
    grids = model.windows.transform.grid(place[i], window)
    contents = model.windows.warp(images[i : i + 1], place[i : i + 1])[0]
    for panel, grid, content in zip(panels[1:], grids, contents, strict=True):
        draw_outline(grid, size, axes=panels[0])
        draw_image(content, axes=panel)
for panel, name in zip(axes[:, 0], ("image", "window 1", "window 2"), strict=True):
    panel.set_ylabel(name)

# %%
# A window holds its digit if it holds all 8 x 8 pixels of the scan. At the start less
# than a fifth of the windows do, and after 500 steps more than nine tenths. In most
# images the classifier finds both digits.


def share_of_windows(params):
    """The share of the windows that hold their digit."""
    boxes = to_boxes(model.windows.transform, params, size)  # (y0, x0, y1, x1)
    holds = (boxes[..., :2] <= corners) & (boxes[..., 2:] >= corners + 8)
    return holds.all(axis=-1).mean()


assert share_of_windows(at_start) < 0.2
assert share_of_windows(params) > 0.9
assert (found == labels).all(axis=-1).mean() > 0.5

# ---
# jupyter:
#   accelerator: GPU
#   jupytext:
#     formats: ipynb,py:percent
#     notebook_metadata_filter: accelerator
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Train on your own images
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/stn-jax/stn_jax/blob/main/colab/own_images.ipynb)
#
# This notebook puts a spatial transformer before a classifier of your own images,
# trains both in one short loop, shows where the transformer looks, and saves the
# weights.

# %%
# Colab: install stn_jax, and keep Colab's versions, which fit its GPU and TPU
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

if "google.colab" in sys.modules:
    address, folder = "https://github.com/stn-jax/stn_jax", Path("/content/stn_jax")
    clone = ["git", "clone", "--quiet", "--depth", "1", address, str(folder)]
    if not folder.exists() and subprocess.run(clone).returncode:
        raise RuntimeError(
            f"{address} cannot be cloned. If it is not published yet, upload the "
            f"repository as {folder}, and run this cell again."
        )
    pins = [f"{name}=={version(name)}\n" for name in ("jax", "jaxlib", "flax", "numpy")]
    Path("/tmp/pins.txt").write_text("".join(pins))
    install = ["install", "--quiet", "--constraint", "/tmp/pins.txt", "--editable"]
    install = [sys.executable, "-m", "pip", *install, f"{folder}[train]"]
    subprocess.run(install, check=True)
    sys.path.insert(0, str(folder))

# %% [markdown]
# ## Your images
#
# One folder per class, in the folders `train` and `test`:
#
# ```
# FOLDER/train/cat/1.png    FOLDER/test/cat/1.png
# FOLDER/train/dog/1.png    FOLDER/test/dog/1.png
# ```
#
# In Colab, upload a zip file by the file browser on the left, and set `ZIP` to its
# name. With `ZIP = None` the notebook writes such a folder itself: scikit-learn's
# digits, each at a random place of a larger image.

# %%
import os
import tempfile

import numpy as np

ZIP = None
SIZE = (32, 32)  # height and width to which all images are scaled
FAST = "STN_JAX_FAST" in os.environ  # set by the tests: only a few steps


def write_digits(folder):
    """An example: 1,797 scanned digits, each on a canvas of 32 x 32 pixels."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    rng = np.random.default_rng(0)
    for i, (digit, name) in enumerate(zip(digits.images, digits.target, strict=True)):
        canvas = np.zeros(SIZE, np.uint8)
        y, x = rng.integers(0, SIZE[0] - 16, 2)
        canvas[y : y + 16, x : x + 16] = np.kron(digit * 15, np.ones((2, 2)))
        path = folder / ("test" if i % 5 == 0 else "train") / str(name) / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(canvas).save(path)


folder = Path(tempfile.mkdtemp())
if ZIP is None:
    write_digits(folder)
else:
    from zipfile import ZipFile

    ZipFile(ZIP).extractall(folder)
    if not (folder / "train").exists():  # the zip file holds one folder
        (folder,) = (path.parent for path in folder.glob("*/train"))

# %% [markdown]
# `train.data.load` reads the folder. It scales each image to fit, and names every file
# that it cannot use.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt

from stn_jax.drawing import draw_image, draw_outline
from train.data import load

data = load(str(folder), image_size=SIZE)


def as_floats(part):
    return jnp.asarray(part.images, jnp.float32) / 255, jnp.asarray(part.labels)


images, labels = as_floats(data.train)
test_images, test_labels = as_floats(data.test)
print(f"{len(images)} training images {images.shape[1:]}, {len(data.classes)} classes")

# %%
# %matplotlib inline
figure, axes = plt.subplots(1, 8, figsize=(8, 1.3), layout="constrained")
for panel, image, label in zip(axes, images[::150], labels[::150], strict=False):
    draw_image(image, axes=panel).axes.set_title(data.classes[label])

# %% [markdown]
# ## The model
#
# The transformer's localization network sees the whole image. It predicts a scale and a
# translation (`Attention`), by which the image is sampled on 16 x 16 pixels. A small
# network classifies these. Other families fit other images: `Similarity` rotates,
# `Affine` shears, `ThinPlateSpline` bends.

# %%
import optax
from flax import nnx

from stn_jax import warp
from stn_jax.nnx import ConvLocalization, SpatialTransformer
from stn_jax.transforms import Attention, Translation


class Classifier(nnx.Module):
    def __init__(self, shape, classes, rngs):
        net = ConvLocalization(shape, rngs=rngs)
        self.transformer = SpatialTransformer(
            net, Attention(), (16, 16), features=net.features, rngs=rngs
        )
        self.hidden = nnx.Linear(16 * 16 * shape[-1], 128, rngs=rngs)
        self.logits = nnx.Linear(128, classes, rngs=rngs)

    def __call__(self, images):
        warped = self.transformer(images)
        return self.logits(nnx.relu(self.hidden(warped.reshape(len(images), -1))))


model = Classifier(images.shape[1:], len(data.classes), nnx.Rngs(0))

# %% [markdown]
# ## The training
#
# The classes alone train the transformer, through the sampler. Its rate is lower than
# that of the rest: a transformer that moves before the classifier knows anything may
# leave the image. A network learns a few thousand images by heart, so each step moves
# its images at random.

# %%
steps, batch = (20 if FAST else 1_500), 64


def part_of(path, _):
    """The name of the rate for a parameter, by its place in the model."""
    is_of_transformer = "transformer" in jax.tree_util.keystr(path)
    return "transformer" if is_of_transformer else "rest"


adam = optax.adam(optax.cosine_decay_schedule(2e-3, steps))
scales = {"transformer": optax.scale(0.15), "rest": optax.identity()}
lowered = optax.multi_transform(
    scales, lambda params: jax.tree_util.tree_map_with_path(part_of, params)
)
optimizer = nnx.Optimizer(model, optax.chain(adam, lowered), wrt=nnx.Param)


@nnx.jit
def train_step(model, optimizer, key):
    pick, move = jax.random.split(key)
    chosen = jax.random.randint(pick, (batch,), 0, len(images))
    shifts = jax.random.uniform(move, (batch, 2), minval=-0.3, maxval=0.3)
    moved = warp(images[chosen], Translation(), shifts)

    def loss_of(model):
        logits = model(moved)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels[chosen])
        return losses.mean()

    loss, gradients = nnx.value_and_grad(loss_of)(model)
    optimizer.update(model, gradients)
    return loss


for step, key in enumerate(jax.random.split(jax.random.key(0), steps)):
    loss = train_step(model, optimizer, key)
    if step % (steps // 5) == 0:
        print(f"step {step:5}: loss {loss:.3f}")

accuracy = (model(test_images).argmax(axis=-1) == test_labels).mean()
print(f"test images classified correctly: {accuracy:.1%}")

# %% [markdown]
# ## Where it looks
#
# Above, each test image with the outline of the sampling grid (its upper edge is red);
# below, what the classifier sees.

# %%
shown = test_images[::49][:8]
params = model.transformer.localize(shown)
warped = model.transformer.warp(shown, params)
grids = Attention().grid(params, (16, 16))
figure, axes = plt.subplots(2, 8, figsize=(8, 2.3), layout="constrained")
for i, (above, below) in enumerate(axes.T):
    draw_image(shown[i], axes=above)
    draw_outline(grids[i], SIZE, axes=above)
    above.set(xlim=(-6, 37), ylim=(37, -6), facecolor="#303048")
    draw_image(warped[i], axes=below)

# %% [markdown]
# ## Save and load the weights
#
# A safetensors file holds the parameters by their names.

# %%
from safetensors.flax import load_file, save_file


def named(model):
    leaves, _ = jax.tree_util.tree_flatten_with_path(nnx.state(model, nnx.Param))
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


save_file(named(model), "classifier.safetensors")

again = Classifier(images.shape[1:], len(data.classes), nnx.Rngs(1))
weights = load_file("classifier.safetensors")
state = nnx.state(again, nnx.Param)
nnx.update(
    again,
    jax.tree.unflatten(jax.tree.structure(state), list(map(weights.get, named(again)))),
)
assert jnp.array_equal(again(test_images[:8]), model(test_images[:8]))

# %% [markdown]
# ## The training program
#
# `python -m train run plain --dataset FOLDER` trains a CNN and an ST-CNN on the same
# folder, with a validation part, checkpoints, figures and weights that `python -m train
# predict` uses.

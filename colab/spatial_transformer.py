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
# # Spatial transformers in JAX
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/stn-jax/stn_jax/blob/main/colab/spatial_transformer.ipynb)
#
# Warps a picture, then trains a small network that learns to find and straighten
# digits, and shows where it looks. It runs on a GPU, a TPU or a CPU.

# %%
import os
import sys
from importlib.metadata import version
from pathlib import Path

if "google.colab" in sys.modules:
    # !git clone --quiet --depth 1 https://github.com/stn-jax/stn_jax
    # %cd stn_jax
    # keep Colab's own versions: they fit its GPU and TPU
    pins = [f"{name}=={version(name)}\n" for name in ("jax", "jaxlib", "flax", "numpy")]
    Path("pins.txt").write_text("".join(pins))
    # %pip install --quiet --constraint pins.txt --editable ".[train]"

FAST = "STN_JAX_FAST" in os.environ  # for the tests: a few steps only

# %%
import jax

print(
    f"jax {jax.__version__} on {jax.default_backend()}: {jax.devices()[0].device_kind}"
)
if jax.default_backend() == "cpu":
    print("This works on a CPU; Runtime > Change runtime type has faster machines.")

# %% [markdown]
# ## Warping a picture
#
# A grid says where in the input each output pixel is read, in coordinates from -1 to 1;
# `bilinear_sample` reads. Both are pure functions: put them under `jit`, `vmap` and
# `grad` as you like.

# %%
# %matplotlib inline
import jax.numpy as jnp
from matplotlib.figure import Figure
from sklearn.datasets import load_sample_image

from stn_jax import affine_grid, bilinear_sample, control_lattice, tps_grid

image = jnp.asarray(load_sample_image("china.jpg"), jnp.float32) / 255
size = image.shape[:2]


@jax.jit
def turn(image, angle, zoom):
    """Turned counter-clockwise by an angle, in radians, and magnified."""
    aspect = size[1] / size[0]  # turn in pixels, not in normalized units
    cos, sin = jnp.cos(angle) / zoom, jnp.sin(angle) / zoom
    theta = jnp.array([[cos, -sin / aspect, 0], [sin * aspect, cos, 0]])
    return bilinear_sample(image, affine_grid(theta, size), padding_mode="reflection")


@jax.jit
def bend(image, key):
    """Through a thin plate spline whose control points moved at random."""
    lattice = control_lattice((4, 4))
    points = lattice + 0.15 * jax.random.normal(key, lattice.shape)
    return bilinear_sample(image, tps_grid(points, size))


pictures = {
    "as it came": image,
    "turned": turn(image, 0.4, 1.3),
    "bent": bend(image, jax.random.key(0)),
}
figure = Figure((12, 3), layout="constrained")
for axes, (title, picture) in zip(figure.subplots(1, 3), pictures.items(), strict=True):
    axes.imshow(picture.clip(0, 1))
    axes.set(title=title, xticks=[], yticks=[])
figure

# %% [markdown]
# ## A network that learns where to look
#
# scikit-learn's scanned digits, turned by up to 45 degrees, scaled and moved about at
# random: a small CNN, and the same CNN behind a `SpatialTransformer`, with as many
# parameters.

# %%
from dataclasses import replace

from train import configs, data, loop, plots

_, config = configs.CONFIGS["demo"]
if FAST:
    config = replace(config, steps=10, batch_size=16, eval_every=5)
digits = data.load(config.dataset)


def show(row):
    """One line for each evaluation."""
    if "test_error" in row:
        print(row["model"], row["step"], f"test error {row['test_error']:.2f}%")


trained = [loop.fit(config, name, digits, show)[0] for name in config.models]

# %% [markdown]
# Where it looks: the outline of the sampling grid on each image, its upper edge in red,
# and below what the CNN behind the transformer gets to see.

# %%
plots.look({run.name: run.looks for run in trained})

# %%
plots.curves(trained)

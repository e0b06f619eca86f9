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
# This notebook warps an image. Then it trains a small network that learns to find and
# straighten digits, and shows what it finds. It runs on a GPU, a TPU or a CPU.

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

# %%
import os

import jax

FAST = "STN_JAX_FAST" in os.environ  # set by the tests: only a few steps
print(
    f"jax {jax.__version__} on {jax.default_backend()}: {jax.devices()[0].device_kind}"
)
if jax.default_backend() == "cpu":
    print("A CPU is enough; Runtime > Change runtime type offers faster machines.")

# %% [markdown]
# ## Warp an image
#
# A grid holds the point of the input where each output pixel is sampled, in coordinates
# from -1 to 1. `bilinear_sample` samples the image there. Both are pure functions: they
# work under `jit`, `vmap` and `grad`.

# %%
# %matplotlib inline
import jax.numpy as jnp
from matplotlib.figure import Figure
from sklearn.datasets import load_sample_image

from stn_jax import affine_grid, bilinear_sample, control_lattice, tps_grid

# china.jpg: flickr.com/photos/danielbuechele, CC BY 2.0
image = jnp.asarray(load_sample_image("china.jpg"), jnp.float32) / 255
size = image.shape[:2]


@jax.jit
def rotate(image, angle, zoom):
    """Rotate counter-clockwise by an angle in radians, and magnify."""
    aspect = size[1] / size[0]  # rotate in pixels, not in normalized units
    cos, sin = jnp.cos(angle) / zoom, jnp.sin(angle) / zoom
    theta = jnp.array([[cos, -sin / aspect, 0], [sin * aspect, cos, 0]])
    return bilinear_sample(image, affine_grid(theta, size), padding_mode="reflection")


@jax.jit
def bend(image, key):
    """Warp by a thin plate spline with randomly displaced control points."""
    lattice = control_lattice((4, 4))
    points = lattice + 0.15 * jax.random.normal(key, lattice.shape)
    return bilinear_sample(image, tps_grid(points, size))


images = {
    "original": image,
    "rotated": rotate(image, 0.4, 1.3),
    "bent": bend(image, jax.random.key(0)),
}
figure = Figure((12, 3), layout="constrained")
for axes, (title, warped) in zip(figure.subplots(1, 3), images.items(), strict=True):
    axes.imshow(warped.clip(0, 1))
    axes.set(title=title, xticks=[], yticks=[])
figure

# %% [markdown]
# ## Train a spatial transformer
#
# The data are scikit-learn's scanned digits, rotated by up to 45 degrees, scaled and
# translated at random. We train a CNN, and a CNN behind a `SpatialTransformer`, with at
# most 200,000 parameters each. A twelfth of the training images is held out: the state
# with the lowest error on them is the result, and is tested at the end.

# %%
from dataclasses import replace

from train import experiments, loop, plots
from train.data import load, with_validation

_, config = experiments.CONFIGS["demo"]
if FAST:
    config = replace(config, steps=10, batch_size=16, eval_every=5)
digits = with_validation(load(config.dataset), config.validation)


def show(row):
    """Print one line for each evaluation."""
    if "validation_error" in row:
        error = f"validation error {row['validation_error']:.2f}%"
        print(row["model"], row["step"], error)


trained = [loop.fit(config, spec, digits, show)[0] for spec in config.models]

# %% [markdown]
# The figure shows the outline of the sampling grid on each image, with its upper edge
# in red. Below is the warped image, the input of the CNN.

# %%
plots.transformer_figure({run.spec: run.snapshots for run in trained})

# %%
plots.curves(trained)

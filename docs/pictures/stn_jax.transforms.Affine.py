import jax.numpy as jnp
import matplotlib.pyplot as plt
from sklearn.datasets import load_sample_image

from stn_jax import warp
from stn_jax.drawing import draw_grid, draw_image, draw_outline
from stn_jax.transforms import Affine

# china.jpg: flickr.com/photos/danielbuechele, CC BY 2.0
image = load_sample_image("china.jpg")[:, 60:487] / 255  # a square
size = image.shape[:2]
family = Affine()
params = jnp.array([0.7, 0.4, 0.0, -0.1, 0.8, 0.0])  # the matrix, row by row
grid = family.grid(params, size)

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 4), layout="constrained")
draw_image(image, axes=left).axes.set_title("input and sampling grid")
draw_grid(grid, size, axes=left)
draw_outline(grid, size, axes=left)
draw_image(warp(image, family, params), axes=right).axes.set_title("output")

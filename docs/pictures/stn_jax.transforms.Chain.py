import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_sample_image

from stn_jax import warp
from stn_jax.drawing import draw_grid, draw_image
from stn_jax.transforms import Chain, Displacement, Rigid

# flower.jpg: flickr.com/photos/vultilion, CC BY 2.0
image = load_sample_image("flower.jpg")[:, 100:527] / 255  # a square
size = image.shape[:2]
rigid, field = Rigid(), Displacement((5, 5))
turn = jnp.array([0.4, 0.0, 0.0])
offsets = jnp.asarray(np.random.default_rng(3).normal(scale=0.08, size=50), "float32")
families = [
    ("Rigid()", rigid, turn),
    ("Displacement((5, 5))", field, offsets),
    (
        "Chain of both: resampled once",
        Chain(rigid, field),
        jnp.concatenate([turn, offsets]),
    ),
]

figure, rows = plt.subplots(2, 3, figsize=(8, 5.6), layout="constrained")
for (title, family, params), (above, below) in zip(families, rows.T, strict=True):
    draw_image(image, axes=above).axes.set_title(title, fontsize=10)
    draw_grid(family.grid(params, size), size, axes=above)
    draw_image(warp(image, family, params), axes=below)

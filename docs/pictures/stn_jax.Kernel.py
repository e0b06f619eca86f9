import jax.numpy as jnp
import matplotlib.pyplot as plt

from stn_jax import Kernel
from stn_jax.drawing import draw_kernel, draw_response

bell = Kernel(2.0, lambda d: jnp.exp(-2 * d**2) * jnp.sqrt(2 / jnp.pi))

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
for kernel, label in (("bilinear", "bilinear"), (bell, "a Gaussian, sigma = 0.5 px")):
    draw_kernel(kernel, axes=left).set_label(label)
    draw_response(kernel, axes=right)
left.set(title="weight by distance in pixels")
left.legend(loc="upper right", fontsize=8)
right.set(title="response by cycles per pixel")

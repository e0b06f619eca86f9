import jax.numpy as jnp
import matplotlib.pyplot as plt
from sklearn.datasets import load_sample_image

from stn_jax import Sampler, warp
from stn_jax.drawing import draw_image
from stn_jax.transforms import Attention, Similarity

# flower.jpg: flickr.com/photos/vultilion, CC BY 2.0
photograph = load_sample_image("flower.jpg")[:, 100:527] / 255
window = Attention()
image = warp(
    photograph, window, window.identity, (32, 32), antialias=True, outside="fill"
)
wider = jnp.array([1.2, 0.4, 0.0, 0.0])  # larger than the image, and turned
samplers = {
    'method="nearest"': Sampler("nearest"),
    'method="bilinear"': Sampler(),
    'method="bicubic"': Sampler("bicubic"),
    'padding_mode="border"': Sampler(padding_mode="border"),
    'padding_mode="reflection"': Sampler(padding_mode="reflection"),
    'padding_mode="wrap"': Sampler(padding_mode="wrap"),
}

figure, axes = plt.subplots(2, 3, figsize=(8, 5.6), layout="constrained")
for ax, (title, sampler) in zip(axes.flat, samplers.items(), strict=True):
    out = warp(image, Similarity(), wider, (160, 160), sampler=sampler)
    draw_image(out.clip(0, 1), axes=ax).axes.set_title(title, fontsize=10)

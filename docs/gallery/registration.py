"""
Registration by gradient descent
================================

Two pictures of a flower. The second is rotated, zoomed, shifted and bent by waves, and
it is darker, flatter and noisy. We look for the transformation of the first that
matches the second: first a similarity, then a thin plate spline. The gradient of the
match passes through :func:`~stn_jax.warp` to the parameters.

In the picture, above: the second picture; the first one, with the lattice that the
spline samples; the first one warped by the spline. Below: the difference from the
second picture before, after the similarity, and after the spline.
"""

from functools import partial

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import optax
from sklearn.datasets import load_sample_image

from stn_jax import control_lattice, identity_grid, sample, warp
from stn_jax.drawing import draw_grid, draw_image
from stn_jax.transforms import Attention, Similarity, ThinPlateSpline

photograph = load_sample_image("flower.jpg")[78:366, 172:460].astype("float32") / 255
similarity, spline = Similarity(), ThinPlateSpline((6, 6))


def shrink(picture, n):
    family = Attention()  # at the identity the whole picture
    return warp(
        picture, family, family.identity, (n, n), antialias=True, outside="fill"
    )


def truth(points):
    """The known transformation of points of the second picture to the first."""
    bent = points + 0.04 * jnp.sin(5 * points[..., ::-1])  # waves of 2.9 pixels
    known = jnp.array([0.8, 0.3, 0.1, -0.05])  # scale, angle, translation
    return similarity.apply(known, bent.reshape(-1, 2)).reshape(points.shape)


first = shrink(photograph, 144)
bent = sample(first, truth(identity_grid((144, 144))), padding_mode="border")
noise = 0.03 * jax.random.normal(jax.random.key(0), first.shape)
second = 0.15 + 0.5 * bent + noise

# %%
# The match is the correlation of all pixels, which ignores brightness and contrast. We
# register coarse to fine, on smaller pictures first. Parameters are normalized, so they
# mean the same at each size. The spline starts at the similarity: it maps its control
# points as the similarity does.


def mismatch(family, params, n):
    """1 minus the correlation of the pictures, shrunk to n x n pixels."""
    warped = warp(shrink(first, n), family, params, padding_mode="border")
    a, b = warped - warped.mean(), shrink(second, n) - second.mean()
    return 1 - (a * b).sum() / jnp.sqrt((a**2).sum() * (b**2).sum())


@partial(jax.jit, static_argnums=(0, 2, 3))
def register(family, params, n, rate, steps=100):
    """Descend from ``params``. Return the parameters and the mismatch of each step."""
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, steps))

    def step(state, _):
        params, moments = state
        error, gradient = jax.value_and_grad(mismatch, argnums=1)(family, params, n)
        update, moments = optimizer.update(gradient, moments)
        return (optax.apply_updates(params, update), moments), (params, error)

    (params, _), trace = jax.lax.scan(
        step, (params, optimizer.init(params)), length=steps
    )
    return params, trace


coarse, trace_1 = register(similarity, similarity.identity, 36, 0.03)
similar, trace_2 = register(similarity, coarse, 72, 0.01)
start = similarity.apply(similar, control_lattice((6, 6))).reshape(-1)
fine, trace_3 = register(spline, start, 72, 0.01)
found, trace_4 = register(spline, fine, 144, 0.003)

# %%
# To draw a difference, we standardize both pictures.


def difference(family, params):
    warped = warp(first, family, params, padding_mode="border")
    a, b = ((x - x.mean()) / x.std() for x in (warped, second))
    return jnp.abs(a - b).mean(axis=-1, keepdims=True) / 2


warped = warp(first, spline, found, padding_mode="border")
figure, axes = plt.subplots(2, 3, figsize=(8, 5.8), layout="constrained")
draw_image(second, axes=axes[0, 0]).axes.set_title("second picture")
draw_image(first, axes=axes[0, 1]).axes.set_title("first picture")
draw_grid(spline.grid(found, (144, 144)), (144, 144), axes=axes[0, 1])
axes[0, 1].set(xlim=(-10.5, 153.5), ylim=(153.5, -10.5), facecolor="#303048")
draw_image(warped, axes=axes[0, 2]).axes.set_title("first picture, warped")
before = difference(similarity, similarity.identity)
draw_image(before, axes=axes[1, 0]).axes.set_title("before")
between = difference(similarity, similar)
draw_image(between, axes=axes[1, 1]).axes.set_title("after the similarity")
after = difference(spline, found)
draw_image(after, axes=axes[1, 2]).axes.set_title("after the spline")

# %%
# The truth is known, so we can say how far key points are from where they belong: 9 x 9
# points over the middle 80 percent of the picture, in pixels of 144. The mismatch jumps
# when the pictures get larger, since small ones have less noise and detail. The error
# of the key points does not.

key_points = 0.8 * control_lattice((9, 9))
stages = {
    "similarity, 36 x 36": (similarity, trace_1),
    "similarity, 72 x 72": (similarity, trace_2),
    "spline, 72 x 72": (spline, trace_3),
    "spline, 144 x 144": (spline, trace_4),
}


def error_in_pixels(family, params):
    miss = family.apply(params, key_points) - truth(key_points)
    return 72 * jnp.linalg.norm(miss, axis=-1).mean(axis=-1)


figure, axes = plt.subplots(2, 1, figsize=(8, 4.5), sharex=True, layout="constrained")
errors = []
for i, (stage, (family, (params, mismatches))) in enumerate(stages.items()):
    errors.append(error_in_pixels(family, params))
    steps = range(100 * i, 100 * (i + 1))
    axes[0].semilogy(steps, mismatches)
    axes[1].semilogy(steps, errors[-1], label=stage)
axes[0].set_ylabel("1 - correlation")
axes[1].set(ylabel="error in pixels", xlabel="step")
axes[1].legend()

# %%
# The photograph is scikit-learn's ``flower.jpg``, from flickr.com/photos/vultilion,
# CC BY 2.0.

start, middle, end = errors[0][0], errors[1][-1], errors[3][-1]
print(f"mean error of the key points: {start:.1f} pixels at the start,")
print(f"{middle:.2f} after the similarity, {end:.2f} after the spline")
assert jnp.allclose(similar[:2], jnp.array([0.8, 0.3]), atol=0.03)  # scale, angle
assert start > 10
assert end < 0.5 < middle

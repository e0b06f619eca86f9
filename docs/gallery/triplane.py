"""
A tri-plane feature field with an eikonal loss
==============================================

A shape as the zeros of a learned distance. Three planes hold features. A point in space
samples each plane at two of its coordinates, and a small network turns the sum into a
distance. The network knows points of a rounded box with their normals. Everywhere else
it knows one law: the gradient of a distance has length 1. This eikonal loss holds a
derivative, so training it takes second derivatives of the sampler.

The picture shows two slices of the learned distance. The black lines are its zeros, the
dashed ones those of the box.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

from stn_jax import sample

BOX, ROUND = jnp.array([0.5, 0.35, 0.2]), 0.15  # half its sides, and its rounding


def exact(point):
    """The signed distance of a point from the rounded box, negative inside."""
    beyond = jnp.abs(point) - BOX
    outer = jnp.sqrt(jnp.sum(jnp.maximum(beyond, 0) ** 2) + 1e-12)
    return outer + jnp.minimum(beyond.max(), 0) - ROUND


distances_from_box = jnp.vectorize(exact, signature="(n)->()")


def on_box(key, n):
    """Points of the box ``(n, 3)``, the nearest to random ones, and their normals."""
    points = jax.random.uniform(key, (n, 3), minval=-1)
    distances, normals = jax.vmap(jax.value_and_grad(exact))(points)
    return points - distances[:, None] * normals, normals


# %%
# "catmull_rom" has a continuous gradient. That of "bilinear" jumps at the centers of
# pixels, and so would the gradient of the distance.


def distance(params, points):
    """The learned distance of points ``(n, 3)``; at first from a sphere."""
    planes, hidden, out = params
    pairs = jnp.stack([points[:, :2], points[:, 1:], points[:, ::2]])  # xy, yz, xz
    features = sample(
        planes, pairs[:, None], method="catmull_rom", padding_mode="border"
    )
    activations = jnp.tanh(features.sum(axis=0)[0] @ hidden)
    return jnp.linalg.norm(points, axis=-1) - 0.5 + activations @ out


def gradient(params, points):
    return jax.grad(lambda points: distance(params, points).sum())(points)


def loss_of(params, key):
    on_key, off_key = jax.random.split(key)
    surface, normals = on_box(on_key, 512)
    anywhere = jax.random.uniform(off_key, (512, 3), minval=-1)
    slopes = gradient(params, jnp.concatenate([surface, anywhere]))
    lengths = jnp.linalg.norm(slopes[512:], axis=-1)
    return (
        jnp.abs(distance(params, surface)).mean()
        + 0.1 * jnp.square(slopes[:512] - normals).sum(axis=-1).mean()
        + 0.1 * jnp.square(lengths - 1).mean()
    )


keys = jax.random.split(jax.random.key(0), 4)
params = (
    0.1 * jax.random.normal(keys[0], (3, 24, 24, 8)),
    0.5 * jax.random.normal(keys[1], (8, 32)),
    jnp.zeros(32),
)
optimizer = optax.adam(optax.cosine_decay_schedule(1e-2, 400))


@jax.jit
def train(params, keys):
    def step(state, key):
        params, moments = state
        loss, slopes = jax.value_and_grad(loss_of)(params, key)
        updates, moments = optimizer.update(slopes, moments)
        return (optax.apply_updates(params, updates), moments), loss

    (params, _), losses = jax.lax.scan(step, (params, optimizer.init(params)), keys)
    return params, losses


trained, losses = train(params, jax.random.split(keys[3], 400))

# %%
# Away from the box the distance comes from the eikonal loss alone.

side = np.linspace(-1, 1, 101, dtype=np.float32)
a, b = np.meshgrid(side, side)
slices = {
    "z = 0": np.stack([a, b, 0 * a], axis=-1),
    "y = 0": np.stack([a, 0 * a, b], axis=-1),
}
figure, axes = plt.subplots(1, 2, figsize=(8, 4.1), layout="constrained")
levels = np.arange(-0.5, 1.01, 0.1)
for panel, (title, points) in zip(axes, slices.items(), strict=True):
    learned = distance(trained, points.reshape(-1, 3)).reshape(a.shape)
    filled = panel.contourf(a, b, learned, levels, cmap="RdBu_r", vmin=-0.8, vmax=0.8)
    panel.contour(a, b, learned, [0], colors="black")
    panel.contour(
        a, b, distances_from_box(points), [0], colors="gold", linestyles="dashed"
    )
    panel.set(title=title, aspect="equal", xticks=[-1, 0, 1], yticks=[-1, 0, 1])
figure.colorbar(filled, ax=axes, shrink=0.7, label="distance")

# %%
# At random points, the training knew neither the distance nor its gradient.

points = jax.random.uniform(jax.random.key(1), (4096, 3), minval=-1)
error = jnp.abs(distance(trained, points) - distances_from_box(points)).mean()
at_first = jnp.abs(distance(params, points) - distances_from_box(points)).mean()
lengths = jnp.linalg.norm(gradient(trained, points), axis=-1)
assert error < 0.03 < 0.1 < at_first
assert jnp.abs(lengths - 1).mean() < 0.1

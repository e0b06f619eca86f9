"""
A custom family
===============

A class with ``num_params``, ``identity`` and ``grid`` is a family of transformations.
This one is a swirl: it rotates points about a center, the most near the center. Its
parameters are the center, the strength and the radius. With ``apply`` the family also
works in :class:`~stn_jax.transforms.Chain` and in :func:`~stn_jax.invert_points`.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import optax
from sklearn.datasets import load_sample_image

from stn_jax import identity_grid, invert_points, warp
from stn_jax.drawing import draw_grid, draw_image
from stn_jax.transforms import Chain


class Swirl:
    """A rotation about a center by an angle that falls off with the distance r.

    The angle is ``strength * exp(-(r / radius) ** 2)``, in radians. The parameters are
    ``x, y, strength, radius``, the center and the radius normalized.
    """

    num_params = 4

    @property
    def identity(self):
        return jnp.array([0.0, 0.0, 0.0, 0.5])

    def apply(self, params, points):
        """Map points of the output, ``(*batch, N, 2)``, to points of the input."""
        center, strength, radius = jnp.split(params[..., None, :], [2, 3], axis=-1)
        x, y = jnp.moveaxis(points - center, -1, 0)
        squared = (x**2 + y**2) / radius[..., 0] ** 2
        angle = strength[..., 0] * jnp.exp(-squared)
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        return center + jnp.stack([cos * x - sin * y, sin * x + cos * y], axis=-1)

    def grid(self, params, size, *, align_corners=False):
        points = identity_grid(size, align_corners=align_corners).reshape(-1, 2)
        return self.apply(params, points).reshape(*params.shape[:-1], *size, 2)

    def inverse(self, params):
        """The rotation keeps r, so the opposite strength undoes it."""
        return params * jnp.array([1, 1, -1, 1])


photograph = load_sample_image("china.jpg")[:420, :420].astype("float32") / 255
size = photograph.shape[:2]
family = Swirl()
params = jnp.array([0.1, -0.05, 2.5, 0.4])
options = {"method": "bicubic", "padding_mode": "border"}
swirled = warp(photograph, family, params, **options)
unswirled = warp(swirled, family, family.inverse(params), **options)

# %%
# The exact inverse is a swirl of the opposite strength, because the rotation keeps the
# distance r. :func:`~stn_jax.invert_points` finds the same points without the formula.
# A chain of the swirl and its inverse samples the photograph once, where it is.

points = jax.random.uniform(jax.random.key(0), (100, 2), minval=-0.8, maxval=0.8)
found, is_found = invert_points(family, params, points)
assert is_found.all()
assert jnp.allclose(found, family.apply(family.inverse(params), points), atol=1e-4)

both = jnp.concatenate([params, family.inverse(params)])
assert jnp.allclose(
    warp(photograph, Chain(family, family), both, **options), photograph, atol=1e-3
)

# %%
# Gradient descent finds the parameters from the two pictures, at a seventh of their
# size. It starts at the identity.

shrink = {"size": (60, 60), "supersample": 7}
small = warp(photograph, family, family.identity, **shrink)
target = warp(swirled, family, family.identity, **shrink)
optimizer = optax.adam(0.03)


@jax.jit
def step(params, state):
    def loss_of(params):
        warped = warp(small, family, params, padding_mode="border")
        return jnp.mean((warped - target) ** 2)

    updates, state = optimizer.update(jax.grad(loss_of)(params), state)
    return params + updates, state


course = [family.identity]
state = optimizer.init(family.identity)
for _ in range(300):
    fitted, state = step(course[-1], state)
    course.append(fitted)

figure, axes = plt.subplots(2, 2, figsize=(8, 8.4), layout="constrained")
draw_image(photograph, axes=axes[0, 0]).axes.set_title("photograph and grid")
draw_grid(family.grid(params, size), size, axes=axes[0, 0])
axes[0, 0].set(xlim=(-0.5, 419.5), ylim=(419.5, -0.5))
draw_image(swirled, axes=axes[0, 1]).axes.set_title("swirled")
draw_image(unswirled, axes=axes[1, 0]).axes.set_title("unswirled")
lines = axes[1, 1].plot(course)
for line, value in zip(lines, params, strict=True):
    axes[1, 1].axhline(value, color=line.get_color(), linestyle="--", linewidth=0.8)
axes[1, 1].legend(lines, ["x", "y", "strength", "radius"])
axes[1, 1].set(title="fitted parameters", xlabel="step")

# %%
# The fit finds all four parameters; the dashed lines are the true values. The unswirled
# picture was sampled twice, which leaves a small error.
#
# The photograph is scikit-learn's ``china.jpg``, from flickr.com/photos/danielbuechele,
# CC BY 2.0.


def error(picture):
    """The mean absolute error, without a margin of 20 pixels."""
    return jnp.abs(picture - photograph)[20:-20, 20:-20].mean()


assert error(unswirled) < 0.2 * error(swirled)
assert jnp.allclose(fitted, params, atol=0.05)

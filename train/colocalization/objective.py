"""The triplet loss of co-localization (appendix A.2) and its minimization."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from stn_jax import warp
from stn_jax.transforms import Attention

from ..configs import Colocalization
from ..distortions import shifted
from .networks import Encoder
from .scenes import CANVAS, PATCH


@partial(jax.jit, static_argnames=("config", "graphdef", "encoder_def"))
def learn(
    config: Colocalization,
    graphdef: nnx.GraphDef,
    encoder_def: nnx.GraphDef,
    encoder: nnx.State,
    focused: jax.Array,
    key: jax.Array,
    params: nnx.State,
) -> tuple[nnx.State, jax.Array]:
    """Train a transformer; return its parameters and the mean loss of the last steps.

    ``focused``, ``(T, N, 84, 84, 1)``, are the images with decreasing blur, each used
    for an equal part of the steps. In every step they are shifted at random, because
    the places in so few images could be memorized.
    """
    encode = nnx.merge(encoder_def, encoder)
    optimizer = optax.adam(
        optax.cosine_decay_schedule(config.learning_rate, config.steps)
    )

    def step(carry: tuple, at: jax.Array) -> tuple:
        params, opt_state = carry
        shift_key, loss_key = jax.random.split(jax.random.fold_in(key, at))
        images = focused[at * len(focused) // config.steps]
        images = jax.vmap(partial(shifted, pixels=config.jitter))(
            jax.random.split(shift_key, len(images)), images
        )
        loss, grads = jax.value_and_grad(triplet_loss)(
            params, graphdef, encode, loss_key, images, config
        )
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), loss

    start = params, optimizer.init(params)
    (params, _), losses = jax.lax.scan(step, start, jnp.arange(config.steps))
    return params, losses[-50:].mean()


def triplet_loss(
    params: nnx.State,
    graphdef: nnx.GraphDef,
    encode: Encoder,
    key: jax.Array,
    images: jax.Array,
    config: Colocalization,
) -> jax.Array:
    """The triplet hinge loss of appendix A.2 over all pairs of two random batches."""
    draw_key, patch_key = jax.random.split(key)
    count = min(config.batch_size, len(images) // 2)
    both = jax.random.permutation(draw_key, len(images))[: 2 * count]
    transformer = nnx.merge(graphdef, params)
    e_n, e_m = encode(transformer(images[both])).reshape(2, count, -1)
    side = PATCH / CANVAS
    place = jax.random.uniform(patch_key, (count, 2), minval=side - 1, maxval=1 - side)
    random = jnp.concatenate([jnp.full((count, 1), side), place], axis=1)
    e_random = encode(warp(images[both[:count]], Attention(), random, (PATCH, PATCH)))
    e_m = jax.lax.stop_gradient(e_m)  # otherwise both move to empty patches
    similar = jnp.square(e_n[:, None] - e_m).sum(axis=-1)
    dissimilar = jnp.square(e_n - e_random).sum(axis=-1, keepdims=True)
    return jax.nn.relu(similar - dissimilar + config.margin).mean()

"""The objective of co-localization (appendix A.2), and how it is learnt.

No labels are given. A transformer with three parameters, (s, tx, ty), looks at a patch
of each image; to a trained encoder the patches of two images should look more alike
than a patch and a random one of the same image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.typing import ArrayLike

from stn_jax import warp
from stn_jax.nnx import SpatialTransformer
from stn_jax.pooling import max_pool
from stn_jax.transforms import Attention

from .classifiers import LeanCNN
from .configs import Colocalization
from .convolution import convolve
from .data import Dataset
from .distortions import blurred, clutter, moved, put
from .tasks import as_floats

PATCH, CANVAS = 28, 84
FEATURES = 128  # 8 in the paper, which also says 100,000 parameters: ours has them
FOCUS = (6.0, 4.0, 2.0, 1.0, 0.0, 0.0)  # pixels of blur: what is far has a slope, too


class Scenes(NamedTuple):
    """Digits, each somewhere on a canvas of its own."""

    images: jax.Array
    """``(N, 84, 84, 1)``."""
    corners: jax.Array
    """The digits' upper left, (x, y) in pixels: ``(N, 2)``."""


class Located(NamedTuple):
    """The images of one class, and where the transformer looks in them."""

    digit: int
    pieces: int
    """Of clutter, in each image."""
    scenes: Scenes
    params: np.ndarray
    """(s, tx, ty) of each: ``(N, 3)``."""
    overlap: np.ndarray
    """Intersection over union with the digit's own square: ``(N,)``."""
    loss: float
    """The last."""
    doubt: float
    """The entropy of the encoder's classes of the patches, in nats, in the mean."""

    @property
    def correct(self) -> float:
        """In percent; correct is an overlap of more than a half."""
        return 100 * float(np.mean(self.overlap > 0.5))


@dataclass(frozen=True)
class Patch:
    """A square within the image, its side ``least`` to ``most`` of the image's.

    ``params`` are (u, v_x, v_y), any numbers; (0, 0, 0) is the square in the middle
    whose side is halfway. Without bounds all patches can be made alike by looking at
    everything, at nothing, or at so little that it is all ink.
    """

    least: float = 0.3
    most: float = 0.6

    @property
    def num_params(self) -> int:
        """Three."""
        return 3

    @property
    def identity(self) -> jax.Array:
        """Where a layer starts: the square in the middle."""
        return jnp.zeros(3)

    def attention(self, params: ArrayLike) -> jax.Array:
        """As (s, tx, ty) of :class:`stn_jax.transforms.Attention`: ``(*batch, 3)``."""
        params = jnp.asarray(params)
        share = jax.nn.sigmoid(params[..., :1])
        side = self.least + (self.most - self.least) * share
        return jnp.concatenate([side, (1 - side) * jnp.tanh(params[..., 1:])], axis=-1)

    def grid(
        self, params: ArrayLike, size: Sequence[int], *, align_corners: bool = False
    ) -> jax.Array:
        """The sampling grid, ``(*batch, *size, 2)``."""
        return Attention().grid(
            self.attention(params), size, align_corners=align_corners
        )


class Localization(nnx.Module):
    """Appendix A.2's: conv 8x9x9 with stride 4, max pooling 2x2, two hidden layers."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.conv = nnx.Conv(
            1,
            8,
            (9, 9),
            strides=(4, 4),
            padding="VALID",
            conv_general_dilated=convolve,
            rngs=rngs,
        )
        side = ((CANVAS - 9) // 4 + 1) // 2
        self.dense1 = nnx.Linear(8 * side**2, FEATURES, rngs=rngs)
        self.dense2 = nnx.Linear(FEATURES, FEATURES, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Images ``(B, 84, 84, 1)`` to features ``(B, 128)``."""
        x = max_pool(nnx.relu(self.conv(images)), 2)
        x = nnx.relu(self.dense1(x.reshape(len(x), -1)))
        return nnx.relu(self.dense2(x))


class Encoder(nnx.Module):
    """The last three layers of a trained CNN, side by side (appendix A.2).

    Each is divided by the distance at which the digits ``(B, 28, 28, 1)`` lie from an
    empty patch, in the root mean square: in this unit the three together, alike and
    unlike patches are about 1 apart, which is the margin's.
    """

    def __init__(self, cnn: LeanCNN, digits: jax.Array) -> None:
        self.cnn = cnn
        from_blank = [
            jnp.sqrt(3 * jnp.square(of_digits - of_blank).sum(axis=-1).mean())
            for of_digits, of_blank in zip(
                self.layers(digits), self.layers(jnp.zeros_like(digits)), strict=True
            )
        ]
        self.units = tuple(float(unit) for unit in from_blank)

    def layers(self, patches: jax.Array) -> tuple[jax.Array, ...]:
        """The second convolution's, the hidden one's, the logits: ``(B, F)`` each."""
        cnn = self.cnn
        x = nnx.relu(cnn.conv2(nnx.relu(cnn.conv1(patches))))
        x = x.reshape(len(x), -1)
        hidden = nnx.relu(cnn.dense(x))
        return x, hidden, cnn.logits(hidden)

    def __call__(self, patches: jax.Array) -> jax.Array:
        """Patches ``(B, 28, 28, 1)`` to features ``(B, F)``."""
        layers = zip(self.layers(patches), self.units, strict=True)
        return jnp.concatenate([x / unit for x, unit in layers], axis=-1)


def scene(key: jax.Array, digit: jax.Array, others: jax.Array, pieces: int) -> Scenes:
    """A digit ``(28, 28, 1)`` anywhere on a canvas, and pieces of others beside it."""
    place_key, clutter_key = jax.random.split(key)
    room = np.array([CANVAS - n + 1 for n in digit.shape[:2]])
    y, x = jax.random.randint(place_key, (2,), 0, room)
    canvas = put(jnp.zeros((CANVAS, CANVAS, 1)), digit, y, x)
    if pieces:
        canvas = clutter(clutter_key, canvas, others, pieces)
    return Scenes(canvas, jnp.array([x, y]))


def locate(
    config: Colocalization,
    data: Dataset,
    encoders: Sequence[Encoder],
    digit: int,
    pieces: int,
) -> Located:
    """Learn where the images of one digit are alike, from several starts, each with an
    encoder of its own; the one of whose patches its encoder is surest is kept.

    What an encoder finds alike, and from where there is a slope, differs from one to
    the next; a patch beside the digit looks like none, or like several.
    """
    key = jax.random.fold_in(jax.random.key(config.seed), 100 * pieces + digit)
    scene_key, key = jax.random.split(key)
    own = np.flatnonzero(data.train_labels == digit)[: config.images]
    digits, others = (as_floats(data.train_images[i]) for i in (own, slice(2000)))
    scenes = jax.vmap(partial(scene, pieces=pieces), (0, 0, None))(
        jax.random.split(scene_key, len(own)), digits, others
    )
    focused = jnp.stack(
        [jax.vmap(partial(blurred, width=w))(scenes.images) for w in FOCUS]
    )
    ends = []
    for start, encoder in enumerate(encoders):
        graphdef, params = nnx.split(_transformer(config, start))
        own = jax.random.fold_in(key, start)
        params, loss = _learn(
            config, graphdef, *nnx.split(encoder), focused, own, params
        )
        transformer = nnx.merge(graphdef, params)
        where = np.asarray(Patch().attention(transformer.localize(scenes.images)))
        overlap = intersection_over_union(where, np.asarray(scenes.corners))
        classes = jax.nn.softmax(encoder.layers(transformer(scenes.images))[-1])
        doubt = jax.scipy.special.entr(classes).sum(axis=-1).mean()
        numbers = float(loss), float(doubt)
        ends.append(Located(digit, pieces, scenes, where, overlap, *numbers))
    return min(ends, key=lambda end: end.doubt)


def _transformer(config: Colocalization, start: int) -> SpatialTransformer:
    rngs = nnx.Rngs(config.seed + start)
    return SpatialTransformer(
        Localization(rngs), Patch(), (PATCH, PATCH), features=FEATURES, rngs=rngs
    )


@partial(jax.jit, static_argnames=("config", "graphdef", "encoder_def"))
def _learn(
    config: Colocalization,
    graphdef: nnx.GraphDef,
    encoder_def: nnx.GraphDef,
    encoder: nnx.State,
    focused: jax.Array,
    key: jax.Array,
    params: nnx.State,
) -> tuple[nnx.State, jax.Array]:
    """The parameters of a transformer after its training, and the loss at the end.

    ``focused`` are the images ``(T, N, 84, 84, 1)`` as they come into focus, each for
    an equal part of the steps. They are moved in every step: of so few images places
    would be learnt by heart, wrong ones, too.
    """
    encode = nnx.merge(encoder_def, encoder)
    optimizer = optax.adam(
        optax.cosine_decay_schedule(config.learning_rate, config.steps)
    )

    def step(carry: tuple, at: jax.Array) -> tuple:
        params, opt_state = carry
        move_key, loss_key = jax.random.split(jax.random.fold_in(key, at))
        images = focused[at * len(focused) // config.steps]
        images = jax.vmap(partial(moved, pixels=config.jitter))(
            jax.random.split(move_key, len(images)), images
        )
        loss, grads = jax.value_and_grad(_loss)(
            params, graphdef, encode, loss_key, images, config
        )
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), loss

    start = params, optimizer.init(params)
    (params, _), losses = jax.lax.scan(step, start, jnp.arange(config.steps))
    return params, losses[-50:].mean()


def _loss(
    params: nnx.State,
    graphdef: nnx.GraphDef,
    encode: Encoder,
    key: jax.Array,
    images: jax.Array,
    config: Colocalization,
) -> jax.Array:
    """The triplet hinge of appendix A.2, of as many n as m, drawn anew in every step,
    over all pairs (n, m).
    """
    draw_key, patch_key = jax.random.split(key)
    count = min(config.batch_size, len(images) // 2)
    both = jax.random.permutation(draw_key, len(images))[: 2 * count]
    transformer = nnx.merge(graphdef, params)
    e_n, e_m = encode(transformer(images[both])).reshape(2, count, -1)
    side = PATCH / CANVAS
    place = jax.random.uniform(patch_key, (count, 2), minval=side - 1, maxval=1 - side)
    random = jnp.concatenate([jnp.full((count, 1), side), place], axis=1)
    e_random = encode(warp(images[both[:count]], Attention(), random, (PATCH, PATCH)))
    e_m = jax.lax.stop_gradient(e_m)  # else pairs meet where there is nothing
    alike = jnp.square(e_n[:, None] - e_m).sum(axis=-1)
    unlike = jnp.square(e_n - e_random).sum(axis=-1, keepdims=True)
    return jax.nn.relu(alike - unlike + config.margin).mean()


def intersection_over_union(params: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Of the squares that (s, tx, ty) look at and the digits' own: ``(N,)``."""
    side = np.abs(params[:, :1]) * CANVAS
    low = (params[:, 1:] + 1) * CANVAS / 2 - side / 2
    common = np.minimum(low + side, corners + PATCH) - np.maximum(low, corners)
    intersection = common.clip(0).prod(axis=1)
    return intersection / (side[:, 0] ** 2 + PATCH**2 - intersection)

"""Co-localization (appendix A.2): what images of one class have in common, and where.

No labels are given. A transformer with three parameters, (s, tx, ty), looks at a patch
of each image; to a trained encoder the patches of two images should look more alike
than a patch and a random one of the same image.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.typing import ArrayLike
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from rich.console import Console
from rich.table import Table

from stn_jax import warp
from stn_jax.nnx import SpatialTransformer
from stn_jax.pooling import max_pool
from stn_jax.transforms import Attention

from . import results
from .classifiers import LeanCNN
from .configs import WITHOUT_MEANING, Colocalization, Config, ConfigError
from .convolution import convolve
from .data import Dataset, load
from .distortions import clutter, put
from .experiment import CHECKPOINTS, check_free, claim, progress, shown
from .loop import fit
from .plots import RED, YELLOW
from .results import RESULTS
from .tasks import as_floats

PATCH, CANVAS = 28, 84
FEATURES = 128  # 8 in the paper, which also says 100,000 parameters: ours has them
FIGURE = "figure.png"
PAPER = {0: (100,) * 10, 16: (81, 82, 88, 75, 94, 84, 93, 85, 89, 87)}  # table 5


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

    @property
    def correct(self) -> float:
        """In percent; correct is an overlap of more than a half."""
        return 100 * float(np.mean(self.overlap > 0.5))


@dataclass(frozen=True)
class Patch:
    """A square that lies within the image, its side ``least`` to 1 of the image's.

    ``params`` are (u, v_x, v_y), any numbers; (0, 0, 0) is the square in the middle
    whose side is halfway. Without bounds all patches can be made alike by looking at
    nothing, or at so little that it is all ink.
    """

    least: float = 0.3

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
        side = self.least + (1 - self.least) * jax.nn.sigmoid(params[..., :1])
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


def run(name: str, config: Colocalization, console: Console) -> Path:
    """Train the encoder, then a transformer for each class; returns the folder.

    It then holds ``results.json``, ``metrics.jsonl`` and ``figure.png``.

    Raises:
      DataError: the data cannot be had; the folder is not touched then.
      OutputError: the folder holds results already, or cannot be written.
    """
    out = config.out or Path("runs") / name
    check_free(out, config)
    data = load(config.dataset, config.data_dir)
    with claim(out, config) as metrics:
        encoder = _encoder(config, data, console)
        located = []
        for pieces in config.clutter:
            for digit in config.digits:
                path = out / CHECKPOINTS / f"{pieces}-{digit}.npz"
                found = _read(path, config)
                if found is None:
                    found = locate(config, data, encoder, digit, pieces)
                    _write(path, config, found)
                located.append(found)
                metrics.write(json.dumps(_row(found)) + "\n")
                console.print(
                    f"digit {digit}, {pieces:2} pieces of clutter: "
                    f"{found.correct:.0f}% found, "
                    f"mean overlap {found.overlap.mean():.2f}"
                )
    document = results.provenance(name, config, data)
    document["models"] = [_row(found) for found in located]
    results.write_json(out / RESULTS, document)
    results.write_figure(out / FIGURE, figure(located))
    console.print(_table(located))
    console.print(f"before and after: {out / FIGURE}", soft_wrap=True)
    shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)
    return out


def _write(path: Path, config: Colocalization, found: Located) -> None:
    """What a run that is stopped need not do again; the first image, for the figure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = found._asdict() | {
        "scenes": found.scenes.images[:1],
        "corners": found.scenes.corners[:1],
        "config": np.array(_identity(config)),
    }

    def save(unfinished: Path) -> None:
        with unfinished.open("wb") as file:
            np.savez_compressed(file, **arrays)

    results.replace(path, save)


def _read(path: Path, config: Colocalization) -> Located | None:
    """What ``_write`` wrote, if it is there."""
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as saved:
        arrays = dict(saved)
    if (theirs := arrays.pop("config").item()) != _identity(config):
        raise ConfigError(
            f"{path} is of another run, with {theirs}, not {_identity(config)}"
        )
    scenes = Scenes(arrays.pop("scenes"), arrays.pop("corners"))
    numbers = {name: arrays.pop(name).item() for name in ("digit", "pieces", "loss")}
    return Located(scenes=scenes, **numbers, **arrays)


def _identity(config: Colocalization) -> str:
    """What two runs have in common whose parts can stand in for each other's."""
    apart = (*WITHOUT_MEANING, "digits", "clutter")
    settings = dataclasses.asdict(config)
    return ", ".join(f"{k}={v}" for k, v in settings.items() if k not in apart)


def _encoder(config: Colocalization, data: Dataset, console: Console) -> Encoder:
    """A classifier of digits at all scales and places; its layers are the encoding."""
    setup = Config(
        ("cnn",),
        "st",
        parameters=config.encoder_parameters,
        steps=config.encoder_steps,
        eval_every=config.encoder_steps,
        seed=config.seed,
    )
    with progress(console) as bar:
        show = shown(bar, "encoder", setup.steps)
        (trained,) = fit(setup, "cnn", data, show)
    assert isinstance(trained.model, LeanCNN)
    return Encoder(trained.model, as_floats(data.train_images[:1000]))


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
    config: Colocalization, data: Dataset, encoder: Encoder, digit: int, pieces: int
) -> Located:
    """Learn where the images of one digit are alike."""
    key = jax.random.fold_in(jax.random.key(config.seed), 100 * pieces + digit)
    scene_key, key = jax.random.split(key)
    own = np.flatnonzero(data.train_labels == digit)[: config.images]
    digits, others = (as_floats(data.train_images[i]) for i in (own, slice(2000)))
    scenes = jax.vmap(partial(scene, pieces=pieces), (0, 0, None))(
        jax.random.split(scene_key, len(own)), digits, others
    )
    transformer = SpatialTransformer(
        Localization(nnx.Rngs(config.seed)),
        Patch(),
        (PATCH, PATCH),
        features=FEATURES,
        rngs=nnx.Rngs(config.seed),
    )
    graphdef, params = nnx.split(transformer)
    optimizer = optax.adam(
        optax.cosine_decay_schedule(config.learning_rate, config.steps)
    )

    def step(carry: tuple, key: jax.Array) -> tuple:
        params, opt_state = carry
        loss, grads = jax.value_and_grad(_loss)(
            params, graphdef, encoder, key, scenes.images, config
        )
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), loss

    keys = jax.random.split(key, config.steps)
    (params, _), losses = jax.jit(partial(jax.lax.scan, step))(
        (params, optimizer.init(params)), keys
    )
    where = Patch().attention(nnx.merge(graphdef, params).localize(scenes.images))
    where = np.asarray(where)
    overlap = intersection_over_union(where, np.asarray(scenes.corners))
    return Located(digit, pieces, scenes, where, overlap, float(losses[-50:].mean()))


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


def _loss(
    params: nnx.State,
    graphdef: nnx.GraphDef,
    encode: Encoder,
    key: jax.Array,
    images: jax.Array,
    config: Colocalization,
) -> jax.Array:
    """The triplet hinge of appendix A.2, over random pairs (n, m)."""
    pair_key, patch_key = jax.random.split(key)
    count, pairs = len(images), min(config.batch_size, len(images) // 2)
    n, m = jax.random.permutation(pair_key, count)[: 2 * pairs].reshape(2, pairs)
    transformer = nnx.merge(graphdef, params)
    both = jnp.concatenate([n, m])
    e_n, e_m = encode(transformer(images[both])).reshape(2, pairs, -1)
    side = PATCH / CANVAS
    place = jax.random.uniform(patch_key, (pairs, 2), minval=side - 1, maxval=1 - side)
    random = jnp.concatenate([jnp.full((pairs, 1), side), place], axis=1)
    e_random = encode(warp(images[n], Attention(), random, (PATCH, PATCH)))
    alike = jnp.square(e_n - jax.lax.stop_gradient(e_m)).sum(axis=-1)
    unlike = jnp.square(e_n - e_random).sum(axis=-1)
    return jax.nn.relu(alike - unlike + config.margin).mean()


def intersection_over_union(params: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Of the squares that (s, tx, ty) look at and the digits' own: ``(N,)``."""
    side = np.abs(params[:, :1]) * CANVAS
    low = (params[:, 1:] + 1) * CANVAS / 2 - side / 2
    common = np.minimum(low + side, corners + PATCH) - np.maximum(low, corners)
    intersection = common.clip(0).prod(axis=1)
    return intersection / (side[:, 0] ** 2 + PATCH**2 - intersection)


def _row(found: Located) -> dict[str, Any]:
    return {
        "digit": found.digit,
        "clutter": found.pieces,
        "correct": found.correct,
        "overlap": round(float(found.overlap.mean()), 4),
        "paper": PAPER.get(found.pieces, (None,) * 10)[found.digit],
        "loss": round(found.loss, 4),
    }


def figure(located: list[Located], count: int = 10) -> Figure:
    """The first image of each class before and after: the square that is looked at in
    yellow, the digit's own in red, and what is seen.
    """
    shown = located[: 2 * count]
    rows = -(-len(shown) // count) * 2
    columns = min(count, len(shown))
    out = Figure((1.1 * columns + 0.8, 1.2 * rows + 0.3), layout="constrained")
    grid = out.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for index, found in enumerate(shown):
        row, column = divmod(index, columns)
        above, below = grid[2 * row, column], grid[2 * row + 1, column]
        image = np.asarray(found.scenes.images[0])
        above.imshow(image, cmap="gray", vmin=0, vmax=1)
        _square(above, np.asarray(found.scenes.corners[0]), PATCH, RED)
        s, *center = found.params[0]
        side = abs(s) * CANVAS
        _square(above, (np.array(center) + 1) * CANVAS / 2 - side / 2, side, YELLOW)
        patch = warp(image, Attention(), found.params[0], (PATCH, PATCH))
        below.imshow(np.asarray(patch), cmap="gray", vmin=0, vmax=1)
        below.set_xlabel(f"{found.correct:.0f}%")
        if column == 0:
            above.set_ylabel(f"{found.pieces} pieces\nlooks here")
            below.set_ylabel("and sees")
    return out


def _square(axes: Axes, corner: np.ndarray, side: float, color: str) -> None:
    square = Rectangle(
        tuple(corner - 0.5), side, side, fill=False, color=color, linewidth=1.5
    )
    axes.add_patch(square)


def _table(located: list[Located]) -> Table:
    table = Table("clutter", title="found, in %, beside the paper's")
    for digit in sorted({found.digit for found in located}):
        table.add_column(str(digit), justify="right")
    for pieces in dict.fromkeys(found.pieces for found in located):
        row = [_row(found) for found in located if found.pieces == pieces]
        row.sort(key=lambda row: row["digit"])
        table.add_row(str(pieces), *(f"{row['correct']:.0f}" for row in row))
        table.add_row("paper", *(str(row["paper"]) for row in row))
    return table

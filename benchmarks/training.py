"""The rows of modules and training steps, beside PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from stn_jax.nnx import ConvLocalization, SpatialTransformer
from train.configs import Config
from train.convolution import convolve
from train.models import build
from train.specs import ModelSpec
from train.steps import Batch, TrainState, train_steps

from .on_jax import Flags, Program
from .timing import Thunk, queued_calls

STEPS = 10  # in one call; a row holds the time of one step
LEARNING_RATE = 0.01
ST_CNN = ModelSpec("cnn", "affine", 1)


@dataclass(frozen=True)
class Step:
    """Training steps of a network with a transformer, on random images."""

    network: str
    batch: int
    size: int
    task: str
    steps = STEPS
    has_plain = True

    def __str__(self) -> str:
        return f"{self.network} {self.batch}x{self.size}x{self.size}x1 step"

    @property
    def labels(self) -> dict[str, Any]:
        """Case and what."""
        return _labels(str(self), "training", channels=0)

    def program(self, options: Flags | None = None) -> Program:
        """Our training steps."""
        return Program(*self.ours(), options=options)

    def peers(self, names: tuple[str, ...]) -> dict[str, Thunk]:
        """PyTorch's training steps."""
        return {"PyTorch": self.theirs()} if "PyTorch" in names else {}

    def theirs(self) -> Thunk:
        """PyTorch's training steps."""
        from .torch_networks import steps

        return steps(
            self.network, self.batch, self.size, self._width(), STEPS, LEARNING_RATE
        )

    def ours(self) -> tuple[Any, ...]:
        """Our training steps as one function, and its arguments.

        As in ``train``, the steps include the distortion and the metrics.
        """
        model = self._model()
        graphdef, params = nnx.split(model)
        optimizer = optax.sgd(LEARNING_RATE)
        rng = np.random.default_rng(0)
        original = 28  # edge of the images that the task distorts
        count = STEPS * self.batch
        images = rng.integers(0, 256, (count, original, original, 1), np.uint8)
        labels = rng.integers(0, 10, count)
        chosen = np.arange(count).reshape(STEPS, self.batch)
        config = Config((ST_CNN,), self.task)
        step = partial(train_steps, graphdef, optimizer, config)

        def run(params: Any, first: Any, last: Any, chosen: Any, *data: Any) -> Any:
            key = jax.random.key(0)
            state = TrainState(params, optimizer.init(params), key, jnp.asarray(first))
            return step(state, last, chosen, Batch(*data))

        return run, params, 0, STEPS, chosen, images, labels

    def _model(self) -> nnx.Module:
        return build(
            ST_CNN,
            "tutorial" if self.network == "tutorial" else "paper",
            canvas=(self.size, self.size, 1),
            size=(28, 28),
            num_classes=10,
            parameters=400_000,
            seed=0,
        )

    def _width(self) -> int:
        """Filters of the paper's convolutions within the parameter budget."""
        if self.network == "tutorial":
            return 0
        return nnx.eval_shape(self._model).classifier.conv1.out_features


@dataclass(frozen=True)
class Module:
    """A spatial transformer with the paper's localization network."""

    batch: int
    size: int
    what: str
    steps = 1
    has_plain = True

    def __str__(self) -> str:
        return f"module {self.batch}x{self.size}x{self.size}x1 {self.what}"

    @property
    def labels(self) -> dict[str, Any]:
        """Case and what."""
        case = str(self).removesuffix(f" {self.what}")
        return _labels(case, self.what, channels=1)

    def program(self, options: Flags | None = None) -> Program:
        """Our module."""
        images = self._images()
        localization = ConvLocalization(
            images.shape[1:], conv_general_dilated=convolve, rngs=nnx.Rngs(0)
        )
        module = SpatialTransformer(localization, features=20, rngs=nnx.Rngs(0))
        graphdef, params = nnx.split(module)

        def forward(params: Any, images: jax.Array) -> jax.Array:
            return nnx.merge(graphdef, params)(images)

        def both(params: Any, images: jax.Array) -> Any:
            out, pull = jax.vjp(lambda params: forward(params, images), params)
            return out, pull(jnp.ones_like(out))

        function = forward if self.what == "forward" else both
        return Program(function, params, images, calls=queued_calls(), options=options)

    def peers(self, names: tuple[str, ...]) -> dict[str, Thunk]:
        """PyTorch's module."""
        if "PyTorch" not in names:
            return {}
        from .torch_networks import transform

        return {"PyTorch": transform(np.asarray(self._images()), self.what)}

    def _images(self) -> jax.Array:
        shape = (self.batch, self.size, self.size, 1)
        return jnp.asarray(np.random.default_rng(0).uniform(size=shape), jnp.float32)


def _labels(case: str, what: str, channels: int) -> dict[str, Any]:
    """A row's labels; the least bytes of a network are not known."""
    return {"case": case, "what": what, "channels": channels, "least_bytes": None}


def plan() -> list[Step | Module]:
    """The rows of modules and training steps."""
    return [
        Module(256, 28, "forward"),
        Module(256, 28, "parameters"),
        Step("tutorial", 64, 28, "plain"),
        Step("paper's ST-CNN", 256, 28, "r"),
        Step("paper's ST-CNN", 256, 42, "rts"),
    ]

"""``python -m train summary``: the models of a configuration before their training."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from ..configs import Config
from ..data import Dataset, Split, load_source
from ..data.arrays import DIGITS, NONE
from ..data.sources import DIGITS_TRAIN
from ..data.svhn import LENGTH
from ..initial import initial_model, shapes_of_examples
from ..models import count_parameters
from ..objective import make_optimizer
from ..steps import Batch, TrainState, train_step
from ..tasks import class_names
from ..transformers import BoundedTransformer, TransformerOutput, Windows
from .columns import aligned

# training and test images of the datasets whose shapes are known without loading, and
# the shape of an image if no --image-size is given; svhn has those of train and extra,
# without the number of six digits
KNOWN = {
    "digits": (DIGITS_TRAIN, 500, (28, 28, 1)),
    "mnist": (60_000, 10_000, (28, 28, 1)),
    "svhn": (235_754, 13_068, (64, 64, 3)),
    "svhn_cropped": (73_257, 26_032, (32, 32, 3)),
    "cub": (5_994, 5_794, (224, 224, 3)),
}
NUMBERS = ((1e12, "trillion"), (1e9, "billion"), (1e6, "million"), (1e3, "thousand"))
BYTES = ((1e9, "gigabytes"), (1e6, "megabytes"), (1e3, "kilobytes"), (1, "bytes"))


class Layer(NamedTuple):
    """A layer that holds parameters, or a spatial transformer."""

    path: str
    kind: str
    output: tuple[int, ...] | None
    """The shape of its output for one image, without the batch; None if it is not
    called."""
    parameters: int
    """Those of the layer itself, without those of layers in it."""


class Cost(NamedTuple):
    """What a model needs, by XLA's analysis of the compiled programs."""

    forward_flops: float
    """Floating point operations of the forward pass for one image."""
    step_flops: float
    """Those of a training step."""
    arguments: float
    """Bytes of a step's arguments: parameters, optimizer state, a batch of images."""
    temporaries: float
    """Bytes of a step's intermediate results."""


def summaries(config: Config) -> Iterator[str]:
    """Describe the models of a configuration, one after the other, as text.

    The dataset is loaded only if its shapes are not known.
    """
    data = known_shapes(config.dataset, config.image_size) or load_source(config)
    images, _ = shapes_of_examples(config.task, data, count=1)
    classes = len(class_names(config.task, data.classes))
    for spec in config.models:
        model = initial_model(config, spec, data)
        heading = f"{spec.label}: images {images.shape[1:]}, {classes} classes"
        layers = _layer_table(layers_of(model, images))
        cost = cost_of(config, model, images, data)
        totals = _cost_table(config, count_parameters(model), cost)
        yield f"{heading}\n\n{layers}\n\n{totals}\n"


def known_shapes(
    dataset: str, image_size: tuple[int, int] | None = None
) -> Dataset | None:
    """A dataset of zeros with the shapes of a well-known one; None for other datasets.

    The arrays are views of one number.
    """
    if dataset not in KNOWN:
        return None
    *counts, shape = KNOWN[dataset]
    shape = (*(image_size or shape[:2]), shape[-1])
    places = (LENGTH,) if dataset == "svhn" else ()
    train, test = (
        Split(
            np.broadcast_to(np.zeros((), np.uint8), (count, *shape)),
            np.broadcast_to(np.zeros((), np.int32), (count, *places)),
        )
        for count in counts
    )
    classes = {"svhn": (NONE, *DIGITS), "cub": tuple(map(str, range(200)))}
    return Dataset(dataset, train, test, classes.get(dataset, DIGITS))


def layers_of(model: nnx.Module, images: jax.ShapeDtypeStruct) -> list[Layer]:
    """The layers of a model in the order of their calls.

    Args:
      model: the model.
      images: the shape of its input, ``(1, *canvas, C)``.
    """
    with _recorded_outputs(model) as outputs:
        jax.eval_shape(model, images)
    layers = {}
    for path, module in nnx.iter_graph(model):
        if not isinstance(module, nnx.Module):
            continue
        own = [x for x in vars(module).values() if isinstance(x, nnx.Param)]
        if own or isinstance(module, BoundedTransformer | Windows):
            layers[id(module)] = Layer(
                path=".".join(map(str, path)) or "(model)",
                kind=type(module).__name__,
                output=outputs.get(id(module)),
                parameters=sum(param.size for param in own),
            )
    called = [layers[key] for key in outputs if key in layers]
    return called + [layer for key, layer in layers.items() if key not in outputs]


@contextmanager
def _recorded_outputs(model: nnx.Module) -> Iterator[dict[int, tuple[int, ...]]]:
    """A context in which the model's modules record the shapes of their outputs.

    It yields the shapes without the batch by the modules' ids, in the order in which
    the modules are called. Python looks up ``__call__`` in the class, so the classes
    are wrapped.
    """
    outputs: dict[int, tuple[int, ...]] = {}

    def wrapped(method):
        def call(self, *args: Any, **kwargs: Any) -> Any:
            outputs.setdefault(id(self), ())
            result = method(self, *args, **kwargs)
            array = result.warped if isinstance(result, TransformerOutput) else result
            if hasattr(array, "shape"):
                outputs[id(self)] = tuple(array.shape[1:])
            return result

        return call

    kinds = {type(m) for _, m in nnx.iter_graph(model) if isinstance(m, nnx.Module)}
    own = [
        (kind, name, vars(kind)[name])
        for kind in {base for kind in kinds for base in kind.__mro__}
        for name in ("__call__", "output")
        if issubclass(kind, nnx.Module) and name in vars(kind)
    ]
    try:
        for kind, name, method in own:
            setattr(kind, name, wrapped(method))
        yield outputs
    finally:
        for kind, name, method in own:
            setattr(kind, name, method)


def cost_of(
    config: Config, model: nnx.Module, images: jax.ShapeDtypeStruct, data: Dataset
) -> Cost:
    """Compile a training step, and return what it needs.

    Args:
      config: the settings.
      model: the model.
      images: the shape of the model's input, ``(1, *canvas, C)``.
      data: the dataset.
    """
    graphdef, params = nnx.split(model)
    forward = jax.jit(lambda params, images: nnx.merge(graphdef, params)(images))
    optimizer = make_optimizer(config)
    state = jax.eval_shape(lambda: _first_state(optimizer, params))
    shapes: list[Any] = [
        jax.ShapeDtypeStruct((config.batch_size, *x.shape[1:]), x.dtype)
        for x in data.train
    ]
    take = jax.jit(partial(train_step, graphdef, optimizer, config), donate_argnums=0)
    compiled = take.lower(state, Batch(*shapes)).compile()
    memory = compiled.memory_analysis()
    return Cost(
        forward_flops=_flops(forward.lower(params, images)),
        step_flops=_flops(compiled),
        arguments=getattr(memory, "argument_size_in_bytes", math.nan),
        temporaries=getattr(memory, "temp_size_in_bytes", math.nan),
    )


def _first_state(
    optimizer: optax.GradientTransformation, params: nnx.State
) -> TrainState:
    step = jnp.zeros((), jnp.int32)
    return TrainState(params, optimizer.init(params), jax.random.key(0), step)


def _flops(program: jax.stages.Lowered | jax.stages.Compiled) -> float:
    analysis = program.cost_analysis()
    return float(analysis["flops"]) if analysis else math.nan


def _layer_table(layers: Sequence[Layer]) -> str:
    cells = [["layer", "type", "output", "parameters"]]
    for layer in layers:
        output = "-" if layer.output is None else "x".join(map(str, layer.output))
        cells.append([layer.path, layer.kind, output, f"{layer.parameters:,}"])
    return aligned(cells, "llrr")


def _cost_table(config: Config, parameters: int, cost: Cost) -> str:
    """The totals, with units in words."""
    batch = f"training step, {config.batch_size} images"
    return aligned(
        [
            ["parameters", f"{parameters:,} ({_bytes(4 * parameters)})"],
            ["forward pass, one image", _operations(cost.forward_flops)],
            [batch, _operations(cost.step_flops)],
            ["memory of a training step", _bytes(cost.arguments + cost.temporaries)],
            ["  parameters, optimizer, images", _bytes(cost.arguments)],
            ["  intermediate results", _bytes(cost.temporaries)],
        ],
        "ll",
    )


def _operations(flops: float) -> str:
    return f"{_in_words(flops, NUMBERS)} floating point operations"


def _bytes(count: float) -> str:
    return _in_words(count, BYTES)


def _in_words(number: float, units: Sequence[tuple[float, str]]) -> str:
    """Three digits of a number, and the unit that suits it."""
    for size, unit in units:
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return "unknown" if math.isnan(number) else f"{number:.3g}"

"""The model before the first step, in the size that the data need."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from .configs import Config, Task
from .data import Dataset
from .errors import ConfigError
from .models import build, with_precision
from .resnet import ResNet, with_weights
from .specs import ModelSpec
from .tasks import class_names, examples


def _check_labels(task: Task, data: Dataset) -> None:
    """Raise ConfigError unless the task can use the data's labels."""
    if data.train.labels.ndim > 1 and task != "plain":
        raise ConfigError(
            f"{data.name} has whole numbers as labels, which --task {task} cannot "
            "distort: use --task plain"
        )
    if task == "parts" and len(data.classes) != 10:
        raise ConfigError(
            f"--task parts needs ten classes, such as digits; {data.name} has "
            f"{len(data.classes)}"
        )


def set_backbones(model: nnx.Module, weights: Path) -> None:
    """Set the weights of all ResNets in a model to those of a file."""
    found = [part for _, part in nnx.iter_graph(model) if isinstance(part, ResNet)]
    if not found:
        raise ConfigError("--backbone-weights goes with --network cub")
    for part in found:
        with_weights(part, weights)


def shapes_of_examples(task: Task, data: Dataset, count: int = 2) -> Any:
    """The shapes of ``count`` of a task's images and of their labels."""
    images, labels = (
        jax.ShapeDtypeStruct((count, *x.shape[1:]), dtype)
        for x, dtype in zip(data.train, (jnp.float32, jnp.int32), strict=True)
    )
    return jax.eval_shape(partial(examples, task), jax.random.key(0), images, labels)


def initial_model(config: Config, spec: ModelSpec, data: Dataset) -> nnx.Module:
    """The model before the first step, of the size that the data need.

    Raises:
      ConfigError: settings, task and data that do not go together.
      ResultsError: weights of another network.
    """
    _check_labels(config.task, data)
    distorted, labels = shapes_of_examples(config.task, data)
    try:
        model = build(
            spec,
            config.network,
            canvas=distorted.shape[1:],
            size=data.train.images.shape[1:3],
            num_classes=len(class_names(config.task, data.classes)),
            places=labels.shape[1] if labels.ndim > 1 else None,
            parameters=config.parameters,
            bound=config.bound,
            seed=config.seed,
        )
        if config.backbone_weights:
            set_backbones(model, config.backbone_weights)
        return with_precision(model, config.precision)
    except ConfigError:
        raise
    except ValueError as error:  # from a layer whose input is too small
        size = "x".join(map(str, distorted.shape[1:-1]))
        raise ConfigError(
            f"images of {size} pixels are too small for {spec.name} with --network "
            f"{config.network}: {error}"
        ) from error

"""The model before the first step, in the size that the data need."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from .configs import Config
from .data import Dataset
from .errors import ConfigError
from .models import build
from .specs import ModelSpec
from .tasks import class_names, examples


def initial_model(config: Config, spec: ModelSpec, data: Dataset) -> nnx.Module:
    """The model before the first step, of the size that the data need."""
    shape = (2, *data.train.images.shape[1:])
    key, labels = jax.random.key(0), jnp.zeros(2, jnp.int32)
    distorted, _ = jax.eval_shape(
        partial(examples, config.task),
        key,
        jax.ShapeDtypeStruct(shape, jnp.float32),
        labels,
    )
    try:
        return build(
            spec,
            config.network,
            canvas=distorted.shape[1:],
            size=data.train.images.shape[1:3],
            num_classes=len(class_names(config.task, data.classes)),
            parameters=config.parameters,
            bound=config.bound,
            seed=config.seed,
        )
    except ConfigError:
        raise
    except ValueError as error:  # from a layer whose input is too small
        size = "x".join(map(str, distorted.shape[1:-1]))
        raise ConfigError(
            f"images of {size} pixels are too small for {spec.name} with --network "
            f"{config.network}: {error}"
        ) from error

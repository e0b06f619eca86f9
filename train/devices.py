"""The devices of a training: a mesh, and what lies where on it.

Axis "seed" divides trainings in parallel, axis "batch" the images of each step. Every
device of a seed holds its parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import (
    AxisType,
    Mesh,
    NamedSharding,
    Sharding,
    SingleDeviceSharding,
)
from jax.sharding import PartitionSpec as P

from .configs import Training
from .errors import ConfigError
from .share import AXIS as BATCH

SEED = "seed"
# jax 0.7 cannot map the gradient of a convolution within shard_map
SEVERAL = jax.__version_info__ >= (0, 8)
LEAST = 32  # images of a step that a device should have, before seeds are spread
BY_SEED, BY_IMAGE, EVERYWHERE = P(SEED), P((SEED, BATCH)), P()


def mesh_for(config: Training, seeds: int = 1) -> Mesh:
    """The mesh of the devices of a training, ``(seed, batch)``.

    The images of a batch are divided among all devices. Where there are more than a
    batch needs, seeds that are trained in parallel are spread over them.

    Raises:
      ConfigError: the devices are too few, or do not divide a batch.
    """
    found = used_devices(config.devices)
    count = len(found)
    of_seeds = _spread(count, config.batch_size, seeds)
    _check_division(config, count // of_seeds)
    return jax.make_mesh(
        (of_seeds, count // of_seeds),
        (SEED, BATCH),
        axis_types=(AxisType.Auto, AxisType.Auto),
        devices=found,
    )


def used_devices(wanted: int | None) -> list[Any]:
    """The first devices, as many as are wanted, or all.

    Raises:
      ConfigError: there are fewer, or this jax or these processes need another number.
    """
    found = jax.devices()
    count = wanted or (len(found) if SEVERAL else 1)
    if count > len(found):
        raise ConfigError(f"--devices {count}: there are {len(found)}")
    if not SEVERAL and max(count, jax.process_count()) > 1:
        raise ConfigError(
            f"several devices need jax 0.8 or newer; this is {jax.__version__}"
        )
    if count < len(found) and jax.process_count() > 1:
        raise ConfigError(
            f"--devices {count}: several processes use all their devices, {len(found)}"
        )
    return found[:count]


def _spread(count: int, batch_size: int, seeds: int) -> int:
    """Into how many groups the devices are divided, each with some of the seeds."""
    needed = max(batch_size // LEAST, 1)
    groups = [
        n
        for n in range(1, seeds + 1)
        if seeds % n == 0 and count % n == 0 and count // n >= needed
    ]
    return max(groups, default=1)


def _check_division(config: Training, count: int) -> None:
    size, parts = config.batch_size, count * config.accumulate
    if size % parts == 0:
        return
    into = f"{count} devices with " if count > 1 else "the parts of "
    into += f"--accumulate {config.accumulate}"
    if config.accumulate == 1:
        into = f"{count} devices"
    below = size // parts * parts
    sizes = " or ".join(str(n) for n in (below, below + parts) if n)
    advice = " or fewer --devices" if count > 1 else ""
    raise ConfigError(
        f"--batch-size {size} cannot be divided evenly among {into}: use {sizes}"
        f"{advice}"
    )


def sharding_of(mesh: Mesh, spec: P) -> Sharding:
    """How an array lies on the devices."""
    if mesh.size == 1:
        return SingleDeviceSharding(mesh.devices.item())
    return NamedSharding(mesh, spec)


def put(mesh: Mesh, spec: P, tree: Any) -> Any:
    """Place arrays of the host, the same in each process, on the devices."""
    sharding = sharding_of(mesh, spec)

    def place(x: Any) -> jax.Array:
        if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            data = place(np.asarray(jax.random.key_data(x)))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))
        x = np.asarray(x)
        return jax.make_array_from_callback(x.shape, sharding, lambda at: x[at])

    return jax.tree.map(place, tree)


def to_host(mesh: Mesh, tree: Any) -> Any:
    """Arrays of the devices as NumPy arrays, whole in each process."""
    return jax.device_get(_gather(mesh)(tree) if jax.process_count() > 1 else tree)


@cache
def _gather(mesh: Mesh) -> Callable[[Any], Any]:
    return jax.jit(lambda tree: tree, out_shardings=NamedSharding(mesh, EVERYWHERE))


def on_each(
    mesh: Mesh, function: Callable[..., Any], in_specs: Any, out_specs: Any
) -> Callable[..., Any]:
    """A function that each device calls with its parts of the arguments."""
    if mesh.size == 1:
        return function
    # what is returned as EVERYWHERE was averaged over the devices, or is their common
    # input; jax cannot follow this through custom derivatives
    return jax.shard_map(
        function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False
    )

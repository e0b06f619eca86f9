"""The share of a batch that one device computes.

Devices divide the images of a batch evenly, in their order. What a batch has in common,
its keys and the images that others take parts of, is that of the whole batch: so a
training gives the same numbers on any number of devices, but for rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
from jax import lax

AXIS = "batch"  # of the mesh of devices, along which a batch is divided


@dataclass(frozen=True)
class Share:
    """Share number ``index`` of ``count``; of several, within ``jax.shard_map``."""

    index: jax.Array | int = 0
    count: int = 1

    def keys(self, key: jax.Array, own: int) -> jax.Array:
        """A key for each of the ``own`` images here: the one it has in the batch."""
        return self.of(jax.random.split(key, self.count * own))

    def of(self, batch: jax.Array) -> jax.Array:
        """The rows of this share."""
        if self.count == 1:
            return batch
        own = len(batch) // self.count
        return lax.dynamic_slice_in_dim(batch, self.index * own, own)

    def whole(self, own: jax.Array) -> jax.Array:
        """The rows of all shares, which the devices send one another."""
        if self.count == 1:
            return own
        return lax.all_gather(own, AXIS, tiled=True)

    def mean(self, tree: Any) -> Any:
        """The means over all shares, which have equally many images."""
        return tree if self.count == 1 else lax.pmean(tree, AXIS)


WHOLE = Share()

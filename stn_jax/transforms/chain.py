"""Compositions of families."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._checks import as_params
from .._types import Params, Size


@dataclass(frozen=True, init=False)
class Chain:
    """A composition: ``Chain(a, b)`` is a(b(p)), the picture warped by a, then by b.

    The image is sampled once, on the grid of the composition. The parameters are those
    of the members, concatenated. All members but the last need ``apply``.

    Args:
      *members: two or more families of the same number of dimensions.

    >>> from stn_jax.transforms import Attention, Rigid
    >>> chain = Chain(Attention(), Rigid())
    >>> chain.identity
    Array([1., 0., 0., 0., 0., 0.], dtype=float32)
    >>> chain.apply(jnp.array([0.5, 0.2, 0.0, 0.0, 0.4, 0.0]), jnp.zeros((1, 2)))
    Array([[0.4, 0. ]], dtype=float32)
    """

    members: tuple[Any, ...]

    def __init__(self, *members: Any) -> None:
        object.__setattr__(self, "members", members)
        if len(members) < 2:
            raise ValueError(f"a chain needs two or more members; got {members!r}")
        for member in members[:-1]:
            if not hasattr(member, "apply"):
                raise TypeError(
                    f"{member} lacks apply(params, points): only the last member of a "
                    "chain can do without"
                )
        if len({getattr(member, "ndim", 2) for member in members}) > 1:
            raise ValueError(
                f"the members of a chain must have the same ndim; got {members!r}"
            )

    @property
    def ndim(self) -> int:
        """2 for images, 3 for volumes."""
        return getattr(self.members[0], "ndim", 2)

    @property
    def num_params(self) -> int:
        """P, the sum of the members' numbers."""
        return sum(member.num_params for member in self.members)

    @property
    def identity(self) -> jax.Array:
        """The parameters ``(P,)`` where a layer starts: those of each member."""
        return jnp.concatenate([member.identity for member in self.members])

    def grid(
        self, params: Params, size: Size, *, align_corners: bool = False
    ) -> jax.Array:
        """``(*batch, P)`` to sampling grids ``(*batch, *size, ndim)``, normalized."""
        *before, last = self._split(params)
        grid = self.members[-1].grid(last, size, align_corners=align_corners)
        batch = grid.shape[: -self.ndim - 1]
        count = math.prod(grid.shape[-self.ndim - 1 : -1])
        points = grid.reshape(*batch, count, self.ndim)
        return self._apply(before, points).reshape(grid.shape)

    def apply(self, params: Params, points: ArrayLike) -> jax.Array:
        """Map points of the output, ``(*batch, N, ndim)``, to points of the input, both
        normalized.
        """
        *before, last = self._split(params)
        return self._apply(before, self.members[-1].apply(last, points))

    def _apply(self, before: list[jax.Array], points: jax.Array) -> jax.Array:
        """Apply all members but the last to points."""
        for member, params in zip(self.members[-2::-1], before[::-1], strict=True):
            points = member.apply(params, points)
        return points

    def _split(self, params: Params) -> list[jax.Array]:
        counts = [member.num_params for member in self.members]
        ends = list(itertools.accumulate(counts))[:-1]
        return jnp.split(as_params(params, self), ends, axis=-1)

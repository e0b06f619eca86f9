"""The samplers that run on JAX: ours, and the peers'."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import stn_jax
from stn_jax import cpu

from .cases import Case

Sampler = Callable[[jax.Array, jax.Array], jax.Array]


class Program:
    """A compiled program with its inputs, and what compiling it told."""

    def __init__(self, function: Callable[..., Any], *arguments: jax.Array) -> None:
        arguments = jax.block_until_ready(jax.device_put(arguments))
        start = time.perf_counter()
        anew = jax.jit(lambda *arguments: function(*arguments))  # nothing is cached
        self.compiled = anew.lower(*arguments).compile()
        self.compile_seconds = time.perf_counter() - start
        memory = self.compiled.memory_analysis()
        self.temporary_bytes = getattr(memory, "temp_size_in_bytes", None)
        self.arguments = arguments

    def __call__(self) -> Any:
        """Run it to the end."""
        return jax.block_until_ready(self.compiled(*self.arguments))


def with_and_without(
    make: Callable[[], Program], both: bool = True
) -> dict[str, Program]:
    """Our program; and where it calls the CPU kernel, the one that does not."""
    programs = {"stn_jax": make()}
    if both and jax.default_backend() == "cpu" and cpu.is_on():
        os.environ["STN_JAX_CPU"] = "off"
        try:
            programs["plain JAX"] = make()
        finally:
            os.environ["STN_JAX_CPU"] = "on"
    return programs


def program(sampler: Sampler, case: Case, what: str) -> Program:
    """One sampler on one case; ``what``: see ``cases.WHATS``."""
    image = jnp.asarray(case.image(), case.dtype)
    out_bar = jnp.asarray(case.cotangent(), case.dtype)
    grid = grids(case)
    if what == "forward":
        return Program(sampler, image, grid)

    def with_gradients(image: jax.Array, grid: jax.Array, out_bar: jax.Array) -> Any:
        if what == "grid":
            out, pull = jax.vjp(lambda grid: sampler(image, grid), grid)
        else:
            out, pull = jax.vjp(sampler, image, grid)
        return out, pull(out_bar)

    return Program(with_gradients, image, grid, out_bar)


def grids(case: Case) -> jax.Array:
    """The case's sampling grids, normalized, ``align_corners=False``."""
    if case.family == "tps":
        return stn_jax.tps_grid(case.control_points(), case.out_size)
    return stn_jax.affine_grid(case.theta(), case.out_size)


def ours(case: Case) -> Sampler:
    """One call, batched by the library itself."""
    return stn_jax.bilinear_sample


def ours_vmapped(case: Case) -> Sampler:
    """A user's own ``jax.vmap`` around the function of one image and one grid."""
    axes = (None, 0) if case.shared else (0, 0)
    return jax.vmap(stn_jax.bilinear_sample, axes)


def lifted(read: Callable[[jax.Array, jax.Array], jax.Array]) -> Callable:
    """A peer that reads one plane at points in pixels, over channels and batch."""

    def make(case: Case) -> Sampler:
        def one(image: jax.Array, grid: jax.Array) -> jax.Array:
            points = stn_jax.to_pixels(grid, case.size)
            points = jnp.moveaxis(points, -1, 0)[::-1]  # rows first
            return jax.vmap(read, (-1, None), -1)(image, points)

        return jax.vmap(one, (None, 0) if case.shared else (0, 0))

    return make


def map_coordinates(plane: jax.Array, points: jax.Array) -> jax.Array:
    """Of ``jax.scipy.ndimage``."""
    return jax.scipy.ndimage.map_coordinates(
        plane, list(points), order=1, mode="constant"
    )


def dm_pix(plane: jax.Array, points: jax.Array) -> jax.Array:
    """Of dm_pix."""
    import dm_pix as pix

    return pix.flat_nd_linear_interpolate_constant(plane, points, cval=0.0)


def keras(plane: jax.Array, points: jax.Array) -> jax.Array:
    """Of Keras on JAX."""
    from keras import ops

    return ops.image.map_coordinates(plane, points, order=1, fill_mode="constant")

"""The samplers that run on JAX: ours and those of other libraries."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

import stn_jax
from stn_jax.sampling import cpu
from stn_jax.sampling.dispatch import DENSE_PIXELS

from .cases import Case
from .timing import queued_calls

Sampler = Callable[[jax.Array, jax.Array], jax.Array]
Flags = dict[str, str | bool]

# what XLA_FLAGS=--xla_gpu_deterministic_ops=true sets for all programs
DETERMINISTIC: Flags = {"xla_gpu_deterministic_ops": True}


class Program:
    """A compiled program with its inputs, compile time and temporary memory.

    A call of it runs the program ``calls`` times. ``options`` are XLA's flags for this
    program.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *arguments: jax.Array,
        calls: int = 1,
        options: Flags | None = None,
    ) -> None:
        arguments = jax.block_until_ready(jax.device_put(arguments))
        start = time.perf_counter()
        fresh = jax.jit(lambda *arguments: function(*arguments))  # not in jit's cache
        self.compiled = fresh.lower(*arguments).compile(options)
        self.compile_seconds = time.perf_counter() - start
        memory = self.compiled.memory_analysis()
        self.temporary_bytes = getattr(memory, "temp_size_in_bytes", None)
        self.arguments, self.calls = arguments, calls

    def __call__(self) -> Any:
        """Run the program and wait for its results."""
        for _ in range(self.calls - 1):
            self.compiled(*self.arguments)
        return self.once()

    def once(self) -> Any:
        """Run the program once, whatever ``calls`` is."""
        return jax.block_until_ready(self.compiled(*self.arguments))


def with_and_without(
    make: Callable[[], Program], both: bool = True
) -> dict[str, Program]:
    """Our program, and if it calls the compiled CPU kernel, also one without it."""
    programs = {"stn_jax": make()}
    if both and jax.default_backend() == "cpu" and cpu.is_on():
        os.environ["STN_JAX_CPU"] = "off"
        try:
            programs["plain JAX"] = make()
        finally:
            os.environ["STN_JAX_CPU"] = "on"
    return programs


def program(
    sampler: Sampler,
    case: Case,
    what: str,
    grid: jax.Array | None = None,
    options: Flags | None = None,
) -> Program:
    """A program that runs a sampler on a case; ``what`` is one of ``cases.WHATS``.

    The sampler gets the case's grids, or another array in their place.
    """
    image = jnp.asarray(case.image(), case.dtype)
    out_bar = jnp.asarray(case.cotangent(), case.dtype)
    grid = grids(case) if grid is None else grid
    calls = queued_calls()
    if what == "forward":
        return Program(sampler, image, grid, calls=calls, options=options)

    def with_gradients(image: jax.Array, grid: jax.Array, out_bar: jax.Array) -> Any:
        if what == "grid":
            out, pull = jax.vjp(lambda grid: sampler(image, grid), grid)
        else:
            out, pull = jax.vjp(sampler, image, grid)
        return out, pull(out_bar)

    return Program(with_gradients, image, grid, out_bar, calls=calls, options=options)


def grids(case: Case) -> jax.Array:
    """The sampling grids of a case, normalized, ``align_corners=False``."""
    if case.family == "tps":
        return stn_jax.tps_grid(case.control_points(), case.out_size)
    return stn_jax.affine_grid(case.theta(), case.out_size)


def ours(case: Case) -> Sampler:
    """Our sampler, batched by the library."""
    return partial(stn_jax.sample, method=case.method)


def ours_vmapped(case: Case) -> Sampler:
    """Our sampler of one image and one grid, batched by the caller's ``jax.vmap``."""
    axes = (None, 0) if case.shared else (0, 0)
    return jax.vmap(ours(case), axes)


def dense(case: Case) -> Sampler | None:
    """Our sampler by matrix products, for images that are small enough for it."""
    if math.prod(case.size) > DENSE_PIXELS or case.method == "nearest":
        return None
    return partial(stn_jax.sample, method=case.method, implementation="dense")


def batched(sampler: Sampler) -> Callable[[Case], Sampler | None]:
    """A bilinear sampler of one channel at pixel coordinates, mapped over channels and
    batch; None for other methods.
    """

    def make(case: Case) -> Sampler | None:
        if case.method != "bilinear":
            return None

        def one(image: jax.Array, grid: jax.Array) -> jax.Array:
            points = stn_jax.to_pixels(grid, case.size)
            points = jnp.moveaxis(points, -1, 0)[::-1]  # rows first
            return jax.vmap(sampler, (-1, None), -1)(image, points)

        return jax.vmap(one, (None, 0) if case.shared else (0, 0))

    return make


def map_coordinates(plane: jax.Array, points: jax.Array) -> jax.Array:
    """The sampler of ``jax.scipy.ndimage``."""
    return jax.scipy.ndimage.map_coordinates(
        plane, list(points), order=1, mode="constant"
    )


def dm_pix(plane: jax.Array, points: jax.Array) -> jax.Array:
    """The sampler of dm_pix."""
    import dm_pix as pix

    return pix.flat_nd_linear_interpolate_constant(plane, points, cval=0.0)


def keras(plane: jax.Array, points: jax.Array) -> jax.Array:
    """The sampler of Keras on JAX."""
    from keras import ops

    return ops.image.map_coordinates(plane, points, order=1, fill_mode="constant")

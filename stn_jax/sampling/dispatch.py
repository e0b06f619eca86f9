"""Which implementation of eq. (3) runs: every decision by platform or shape.

The decisions are made when a program is lowered for its platform, so that a program
exported for another platform gets that platform's implementation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from . import cpu
from .plan import Plan

IMPLEMENTATIONS = ("gather", "dense")

# Image size up to which a TPU multiplies with all pixels instead of gathering: it
# gathers element by element, while 64 x 64 pixels take 8 thousand multiplications for
# each point, 1e-10 s at 1e14 a second.
DENSE_PIXELS = 64 * 64

# Number of channels from which a CPU computes gradients one image after another: the
# taps of one image then fill the caches.
WIDE = 8

# With fewer channels: numbers in one output from which it does so for the gradient of
# the image, so that the sum over the points runs beside the gradient of the points.
LARGE = 2**16


def has_primitive(plan: Plan) -> bool:
    """Whether the primitive computes this plan: its methods, and real pixels."""
    return isinstance(plan.method, str) and jnp.issubdtype(plan.dtype, jnp.floating)


def is_in_pairs(plan: Plan) -> bool:
    """Whether the primitive computes this plan for the parts of complex pixels."""
    is_named = isinstance(plan.method, str) and plan.implementation != "dense"
    return is_named and jnp.issubdtype(plan.dtype, jnp.complexfloating)


def is_dense(platform: str, plan: Plan, size: Sequence[Any]) -> bool:
    """Whether matrix products with an image of this size replace gathers.

    On a GPU gathers are faster (docs/benchmarks-gpu.md).
    """
    is_open = plan.implementation is None and plan.method != "nearest"
    if not is_open or platform != "tpu":
        return plan.implementation == "dense"
    is_known = all(isinstance(n, int) for n in size)  # an export may leave it open
    return is_known and math.prod(size) <= DENSE_PIXELS


def is_separable(platform: str, plan: Plan) -> bool:
    """Whether axis-aligned families take one matrix product for each axis.

    On a CPU the product is faster than gathers only for one channel, and there slower
    than the compiled kernel.
    """
    return platform == "tpu" and plan.method != "nearest"


def is_image_by_image(channels: int, numbers: Any, needs_image_grad: bool) -> bool:
    """Whether a CPU computes gradients one image after another.

    ``numbers`` counts the entries of one output; an export may leave it open.
    """
    is_large = isinstance(numbers, int) and numbers >= LARGE
    return channels >= WIDE or (needs_image_grad and is_large)


def is_channel_by_channel(channels: int) -> bool:
    """Whether a CPU sums over the channels by adding them one by one.

    XLA's loop over a short axis is slow. Over a longer one it is fast.
    """
    return channels < WIDE


def has_cpu_kernel(context: Any, plan: Plan) -> bool:
    """Whether the compiled kernel replaces gathers in the program being lowered, whose
    first two arrays are the image and the points.
    """
    image, points, *_ = context.avals_in
    return (
        plan.method in cpu.METHODS
        and all(axis.padding_mode in cpu.MODES for axis in plan.axes)
        and image.dtype in cpu.DTYPES
        and points.dtype in (jnp.float32, jnp.float64)
        and _can_call_kernel(context)
        and 0 < math.prod(image.shape[1:-1]) < 2**29  # indices are int32
        and image.shape[-1] > 0
    )


def has_cpu_kernel_of_grids(context: Any, plan: Plan) -> bool:
    """The same for a program whose first two arrays are the image and theta.

    Points are as precise as theta, and the kernel sums in one precision: it cannot take
    theta in float32 with an image in float64.
    """
    image, theta, *_ = context.avals_in
    is_mixed = image.dtype == jnp.float64 and theta.dtype == jnp.float32
    return not is_mixed and has_cpu_kernel(context, plan)


def has_cpu_prefilter(context: Any) -> bool:
    """Whether the compiled kernel computes the coefficients of splines in the program
    being lowered, for an array of pixels.
    """
    (image,) = context.avals_in
    is_known = image.dtype in (jnp.float32, jnp.float64)
    return is_known and _can_call_kernel(context) and image.size > 0


def _can_call_kernel(context: Any) -> bool:
    """Whether the program being lowered may call the kernel, and there is one.

    XLA cannot divide a call of the kernel among devices: only ``jax.shard_map`` can. A
    program that is exported must run where there is no kernel.
    """
    module = context.module_context
    where, parameters = module.axis_context, module.lowering_parameters
    names = getattr(getattr(where, "mesh", None), "axis_names", None)
    is_divided = names is not None and set(names) == set(where.manual_axes)
    is_one = is_divided or getattr(where, "num_devices", None) == 1
    return is_one and not parameters.for_export and cpu.is_on()

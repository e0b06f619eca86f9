"""Samplers: what is sampled at the points of a grid.

The files in order of imports::

    kernels       weights of the pixels around a point, along one axis
    padding       which pixel the extended image shows at an index, along one axis
    splines       interpolation by B-splines, along one axis
    plan          what a call of the sampler decides before it runs
    gather        eq. (3): look up the few pixels around each point
    dense         eq. (3): weigh all pixels by matrix products
    separable     eq. (3) on axis-aligned grids: one matrix product for each axis
    cpu/          the compiled CPU kernel
    dispatch      which of these runs: every decision by platform or shape
    gradients     the hand-written cotangents of gather, for CPUs
    primitive     JAX primitives: jvp, transpose, vmap and lowering
    weighted_sum  eq. (3) as such a primitive, by what suits the platform
    prefilter     the coefficients of B-splines, as a linear primitive
    interpolate   one image, one grid: fill value, hard edges, NaN and dtypes
    sampler       Sampler: the options, and the preparation of a call
    api           sample, bilinear_sample
"""

from .api import bilinear_sample as bilinear_sample
from .api import sample as sample
from .kernels import Kernel as Kernel
from .sampler import Sampler as Sampler

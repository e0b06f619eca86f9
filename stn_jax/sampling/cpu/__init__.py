"""Compiled CPU kernel for bilinear sampling (optional).

``python -m stn_jax.cpu build`` compiles ``kernel.cpp`` into the user's cache, and
``python -m stn_jax.cpu`` reports whether the kernel is used. Programs that JAX compiles
for a CPU then call it for float32 and bfloat16 images with float32 coordinates, unless
the environment says ``STN_JAX_CPU=off``. XLA's CPU compiler does not vectorize a loop
with a gather; the kernel is vectorized over points or channels. Both give the same
results up to rounding.

Plain JAX still defines all derivatives and batching rules. It also samples whatever the
kernel does not support: other dtypes, exported programs, and arrays that the compiler
partitions over several devices.

The files in order of imports::

    trust  which files of the cache may be loaded
    build  compile the kernel, and load it from the cache
    ffi    when the kernel can stand in, and the calls of it
"""

from .ffi import MODES as MODES
from .ffi import cotangents as cotangents
from .ffi import is_on as is_on
from .ffi import values as values

"""Compiled CPU kernel for sampling.

The package holds it, compiled for a few instruction sets, where it was built with a
C++20 compiler. ``python -m stn_jax.cpu build`` compiles it for just this CPU into the
user's cache, and ``python -m stn_jax.cpu`` reports which one is used. Programs that JAX
compiles for a CPU call it, unless the environment says ``STN_JAX_CPU=off``. XLA's CPU
compiler does not vectorize a loop with a gather; the kernel is vectorized over points
or channels. Both give the same results up to rounding.

Plain JAX still defines all derivatives and batching rules. It also samples whatever the
kernel does not support: a custom Kernel, images of integers, exported programs, and
arrays that the compiler partitions over several devices.

Its source, in C++, is ``kernel/``. The files in order of imports::

    compiler  the compiler's commands, and records of what they made
    variants  the instruction sets for which a package holds the kernel
    trust     which files of the cache may be loaded
    library   load a library that agrees with its record
    build     compile the kernel for this CPU into the user's cache
    packaged  the kernel that comes with the package
    weights   the weights of each method as polynomials
    ffi       which kernel stands in, and the calls of it
"""

from .ffi import DTYPES as DTYPES
from .ffi import METHODS as METHODS
from .ffi import MODES as MODES
from .ffi import cotangents as cotangents
from .ffi import in_use as in_use
from .ffi import is_on as is_on
from .ffi import prefilter as prefilter
from .ffi import values as values
from .ffi import warp_cotangents as warp_cotangents
from .ffi import warp_values as warp_values

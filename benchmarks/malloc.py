"""How the C library reuses freed memory, the same for every timed program.

By default glibc reuses some freed blocks, and requests new pages, which the kernel must
clear, for others. Which program gets which depends on what ran before, in which thread.
"""

from __future__ import annotations

import ctypes
import os
from typing import Literal

Memory = Literal["kept", "fresh", "default"]

# parameters of mallopt(3)
TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -3, -4, -8
SETTINGS: dict[Memory, dict[int, int]] = {
    "kept": {ARENA_MAX: 1, MMAP_MAX: 0, TRIM_THRESHOLD: -1},
    "fresh": {ARENA_MAX: 1, MMAP_THRESHOLD: 2**20, TRIM_THRESHOLD: 2**20},
    "default": {},
}


def configure(memory: Memory) -> bool:
    """Configure the C library from here on, best before other threads start.

    Returns:
      Whether the C library supports it, as glibc does.
    """
    mallopt = (
        getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    )
    done = [mallopt and mallopt(*setting) for setting in SETTINGS[memory].items()]
    return all(done)

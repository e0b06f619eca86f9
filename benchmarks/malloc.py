"""What becomes of the memory that programs give back.

Left to itself, glibc hands some of it out again and has the kernel clear new pages for
the rest. Which program gets which depends on what ran before, in which thread, and a
result of 32 MB takes several times as long to write into new pages. So it is settled
for all alike.
"""

from __future__ import annotations

import ctypes
import os
from typing import Literal

Memory = Literal["kept", "fresh", "default"]

# of mallopt(3)
TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -3, -4, -8
SETTINGS: dict[Memory, dict[int, int]] = {
    "kept": {ARENA_MAX: 1, MMAP_MAX: 0, TRIM_THRESHOLD: -1},
    "fresh": {ARENA_MAX: 1, MMAP_THRESHOLD: 2**20, TRIM_THRESHOLD: 2**20},
    "default": {},
}


def settle(memory: Memory) -> bool:
    """Settle it, from here on, best before any other thread begins.

    Returns:
      Whether the C library can: glibc can.
    """
    mallopt = (
        getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    )
    done = [mallopt and mallopt(*setting) for setting in SETTINGS[memory].items()]
    return all(done)

"""The variants of the CPU kernel that a package holds, one for each instruction set.

The build of the package runs this file without jax, so that it needs the standard
library only.
"""

from __future__ import annotations

import functools
import platform
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).with_name("lib")
CPUINFO = Path("/proc/cpuinfo")

# what /proc/cpuinfo calls the features of the x86-64 psABI's levels
LEVEL_3 = frozenset({"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"})
LEVEL_3 |= {"xsave", "popcnt", "sse4_1", "sse4_2", "ssse3"}
LEVEL_4 = LEVEL_3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}


class Variant(NamedTuple):
    """A way to compile the kernel, and the features that a CPU needs to run it."""

    name: str
    options: tuple[str, ...]
    features: frozenset[str]

    def library(self, digest: str) -> Path:
        """The path of its library, for the digest of a source."""
        return FOLDER / f"kernel-{digest}-{self.name}.so"


X86_64 = (
    Variant("x86-64-v4", ("-march=x86-64-v4",), LEVEL_4),
    Variant("x86-64-v3", ("-march=x86-64-v3",), LEVEL_3),
)
ARM64 = (Variant("arm64", (), frozenset()),)
# by system and machine: those for which jaxlib has wheels and we know the features
VARIANTS = {
    ("Linux", "x86_64"): X86_64,
    ("Linux", "aarch64"): ARM64,
    ("Darwin", "arm64"): ARM64,
}


def variants() -> tuple[Variant, ...]:
    """All variants for this machine, the fastest first; none on others."""
    return VARIANTS.get((platform.system(), platform.machine()), ())


def usable() -> tuple[Variant, ...]:
    """The variants that this CPU can run, the fastest first."""
    found = features()
    return tuple(variant for variant in variants() if variant.features <= found)


def features() -> frozenset[str]:
    """The CPU's features as Linux reports them; none on other systems."""
    return _features_in(CPUINFO)


@functools.cache
def _features_in(cpuinfo: Path) -> frozenset[str]:
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return frozenset()
    named = (line.split(":", 1) for line in lines if ":" in line)
    values = (value for name, value in named if name.strip() in ("flags", "Features"))
    return frozenset(next(values, "").split())

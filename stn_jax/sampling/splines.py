"""Interpolation by B-splines along one axis (Unser et al., 1993).

The spline sum_k c_k B(x - k) passes through the pixels f_i if A c = f, A[i, k] = B(i -
k). The padding mode extends the image over all integers, and A belongs to the extended
image.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .kernels import bspline
from .padding import RULES

# How many coefficients beyond the edge count where the surroundings are constant: they
# fall off by the factor 0.43 a pixel (degree 5) or faster, to below 1e-11.
MARGIN = 32


def margin(padding_mode: str) -> int:
    """How many coefficients the prefilter adds at each end of an axis."""
    return 0 if padding_mode in ("reflection", "wrap") else MARGIN


class Spline(NamedTuple):
    """A spline through the pixels of an axis."""

    degree: int
    n: int
    """Pixels."""
    padding_mode: str
    align_corners: bool

    @property
    def size(self) -> int:
        """How many coefficients it has."""
        return self.n + 2 * margin(self.padding_mode)

    def pixels(self, extra: int) -> np.ndarray:
        """The pixel that the extended image shows at -extra ... n + extra - 1.

        -1 stands for none: zero.
        """
        index = np.arange(-extra, self.n + extra)
        pixels, exists = self._shown(self.padding_mode, index, self.n)
        return np.where(exists, pixels, -1)

    def matrix(self) -> np.ndarray:
        """The matrix from pixels to coefficients, ``(size, n)``: the inverse of A."""
        extra, size = margin(self.padding_mode), self.size
        pixels = self.pixels(extra)
        extended = (pixels[:, None] == np.arange(self.n)).astype(float)
        system, rows = np.zeros((size, size)), np.arange(size)
        rule = "border" if extra else self.padding_mode
        for i, value in enumerate(self._values()):
            index, _ = self._shown(rule, rows + i - self.degree // 2, size)
            np.add.at(system, (rows, index), value)
        return np.linalg.solve(system, extended)

    def poles(self) -> np.ndarray:
        """The zeros of sum_k B(k) z^k in the unit circle: a recursion by each of them
        inverts A on an infinite axis.
        """
        roots = np.roots(np.trim_zeros(self._values())).real
        return roots[np.abs(roots) < 1]

    def _values(self) -> list[float]:
        """B at the integers."""
        return bspline(np.float64(0), degree=self.degree)

    def _shown(
        self, padding_mode: str, index: np.ndarray, n: int
    ) -> tuple[np.ndarray, np.ndarray]:
        with jax.ensure_compile_time_eval():
            rule = RULES[padding_mode]
            pixels, exists = rule(jnp.asarray(index), n, self.align_corners)
            return np.asarray(pixels), np.asarray(exists)

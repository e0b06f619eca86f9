"""The cases that are timed: images, sampling grids, and which gradients."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

# the forward pass; with the gradient of the grid; with those of grid and image
WHATS = ("forward", "grid", "both")


@dataclass(frozen=True)
class Case:
    """Images ``(B, *size, C)`` and one grid for each, ``(B, *out_size, n)``.

    With ``shared``, all grids sample one image ``(*size, C)``.
    """

    batch: int
    size: tuple[int, ...]
    channels: int
    out_size: tuple[int, ...]
    shared: bool = False
    family: str = "affine"
    dtype: str = "float32"
    method: str = "bilinear"

    def __str__(self) -> str:
        shape = "x".join(map(str, (*self.size, self.channels)))
        if self.shared:
            grids = "x".join(map(str, (self.batch, *self.out_size)))
            shape = f"{shape} at {grids}"
        else:
            shape = f"{self.batch}x{shape}"
        tps = " TPS" if self.family == "tps" else ""
        method = "" if self.method == "bilinear" else f" {self.method}"
        return shape + tps + method + (" bf16" if self.dtype == "bfloat16" else "")

    @property
    def ndim(self) -> int:
        """2 for images, 3 for volumes."""
        return len(self.size)

    def image(self) -> NDArray[np.float32]:
        """Random pixels in float32, which the caller casts to ``dtype``."""
        shape = (*self.size, self.channels)
        shape = shape if self.shared else (self.batch, *shape)
        return _rng().uniform(size=shape).astype(np.float32)

    def theta(self) -> NDArray[np.float32]:
        """Rotations by up to 45 degrees, scales from 0.7 to 1.3: ``(B, n, n + 1)``."""
        rng, ndim = _rng(), self.ndim
        theta = np.zeros((self.batch, ndim, ndim + 1), np.float32)
        for matrix in theta:
            angle, scale = rng.uniform(-np.pi / 4, np.pi / 4), rng.uniform(0.7, 1.3)
            rotation = np.eye(ndim)
            cos, sin = math.cos(angle), math.sin(angle)
            rotation[:2, :2] = [[cos, -sin], [sin, cos]]
            matrix[:, :ndim] = scale * rotation
        return theta

    def control_points(self) -> NDArray[np.float32]:
        """A lattice of 4 x 4 points, each displaced by up to 0.15: ``(B, 16, 2)``."""
        line = np.linspace(-1, 1, 4)
        lattice = np.stack(np.meshgrid(line, line), axis=-1).reshape(16, 2)
        moved = lattice + _rng().uniform(-0.15, 0.15, size=(self.batch, 16, 2))
        return moved.astype(np.float32)

    def cotangent(self) -> NDArray[np.float32]:
        """The output's gradient, which is pulled back: ``(B, *out_size, C)``."""
        shape = (self.batch, *self.out_size, self.channels)
        return np.random.default_rng(1).normal(size=shape).astype(np.float32)

    def least_bytes(self, what: str) -> int:
        """Bytes of all inputs and outputs, each read or written once."""
        pixel = 2 if self.dtype == "bfloat16" else 4
        image = math.prod(self.image_shape) * pixel
        out = self.batch * math.prod(self.out_size) * self.channels * pixel
        grid = self.batch * math.prod(self.out_size) * self.ndim * 4
        forward = image + grid + out
        if what == "forward":
            return forward
        back = image + grid + out + grid  # both, cotangent; grid's gradient
        return forward + back + (image if what == "both" else 0)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of ``image()``."""
        shape = (*self.size, self.channels)
        return shape if self.shared else (self.batch, *shape)


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


CASES = (
    Case(256, (28, 28), 1, (28, 28)),
    Case(64, (60, 60), 1, (60, 60)),
    Case(64, (32, 32), 32, (32, 32)),
    Case(16, (224, 224), 3, (224, 224)),
    Case(8, (128, 128), 64, (128, 128)),
    Case(4, (97, 61), 16, (97, 61)),
    Case(64, (512, 512), 3, (64, 64), shared=True),
    Case(2, (64, 64, 64), 4, (64, 64, 64)),
)

# other methods than bilinear
METHODS = tuple(
    replace(case, method=method)
    for method in ("bicubic", "nearest")
    for case in (CASES[0], CASES[3], CASES[2])
)

# PyTorch has no splines through the pixels
SPLINES = tuple(
    replace(case, method="bspline3") for case in (CASES[0], CASES[3], CASES[2])
)

# enough for a GPU or TPU, whose programs take less time than a call for a small case
LARGE = (
    Case(256, (224, 224), 3, (224, 224)),
    Case(64, (128, 128), 64, (128, 128)),
)

"""The coefficients with which B-splines interpolate an image (Unser et al., 1993).

Along an axis, the spline sum_k c_k B(x - k) passes through the pixels f_i if A c = f,
A[i, k] = B(i - k). The padding mode extends the image over all integers, and A belongs
to the extended image. We invert A in NumPy's float64 while tracing. The prefilter is
one matrix product with this inverse along each axis.
"""

from __future__ import annotations

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


def coefficients(
    image: jax.Array, degree: int, modes: tuple[str, ...], align_corners: bool
) -> jax.Array:
    """The spline coefficients of an image, ``(*batch, *(n + 2 * margin), C)``.

    Under "zeros" and "constant" the image is surrounded by zeros: subtract the fill
    value first.
    """
    for offset, mode in enumerate(modes):
        axis = image.ndim - 1 - len(modes) + offset
        matrix = _prefilter(image.shape[axis], degree, mode, align_corners)
        matrix = jnp.asarray(matrix, jnp.finfo(image.dtype).dtype).astype(image.dtype)
        image = jnp.tensordot(matrix, image, (1, axis), precision="highest")
        image = jnp.moveaxis(image, 0, axis)
    return image


def _prefilter(n: int, degree: int, mode: str, align_corners: bool) -> np.ndarray:
    """The matrix from n pixels to their coefficients: ``(n + 2 * margin, n)``."""
    extra = margin(mode)
    size = n + 2 * extra
    pixels = np.arange(size)
    extended = np.zeros((size, n))  # the pixels with some of their surroundings
    if mode == "border":
        extended[pixels, np.clip(pixels - extra, 0, n - 1)] = 1
    else:
        extended[extra + np.arange(n), np.arange(n)] = 1
    values = bspline(np.float64(0), degree=degree)  # B at the integers
    system = np.zeros((size, size))
    rule = RULES["border" if extra else mode]
    for i, value in enumerate(values):
        with jax.ensure_compile_time_eval():
            index = jnp.asarray(pixels + i - degree // 2)
            index = np.asarray(rule(index, size, align_corners)[0])
        np.add.at(system, (pixels, index), value)
    return np.linalg.solve(system, extended)

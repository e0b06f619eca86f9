"""The weights of each method as polynomials, which the compiled kernel evaluates.

The weight of a pixel, as a function of the place t of the point between the pixels
(see :mod:`stn_jax.sampling.kernels`), is written as

    value + slope t + t (1 - t) (c_0 + c_1 s + c_2 s^2 + ...),

s = t - 1/2 for an even number of pixels, else t. So the weights at the pixels
themselves, t = 0 and t = 1, are exact.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.polynomial import Chebyshev, Polynomial
from numpy.typing import NDArray

from ..kernels import METHODS

NODES = 18  # of the Lanczos kernel's interpolation


@functools.cache
def polynomials(method: str) -> NDArray[np.float64]:
    """The coefficients ``(taps, 2 + curve)``: value, slope, c_0, c_1, ...

    >>> polynomials("bilinear").tolist()
    [[1.0, -1.0], [0.0, 1.0]]
    """
    if method == "nearest":
        return np.array([[1.0, 0.0]])
    if method == "lanczos3":
        return np.stack([_fitted(tap) for tap in range(6)])
    taps, weights = METHODS[method]
    t = Polynomial([0.0, 1.0])
    middle = 0.0 if taps % 2 else 0.5
    of_polynomials: Any = weights  # they add and multiply as arrays do
    return np.stack([_divided(w, taps - 2, middle) for w in of_polynomials(t)])


def _divided(weight: Polynomial, count: int, middle: float) -> NDArray[np.float64]:
    """The coefficients of a weight that is a polynomial."""
    value, slope = weight(0.0), weight(1.0) - weight(0.0)
    rest = weight - Polynomial([value, slope])
    curve = (rest // Polynomial([0.0, 1.0, -1.0]))(Polynomial([middle, 1.0]))
    coefficients = curve.coef[:count]  # a quotient of zero has one
    missing = [0.0] * (count - len(coefficients))
    return np.array([value, slope, *coefficients, *missing])


def _fitted(tap: int) -> NDArray[np.float64]:
    """The coefficients of a weight of the Lanczos kernel, by interpolation."""
    weight = functools.partial(_lanczos3, tap)
    value, slope = float(tap == 2), float(tap == 3) - float(tap == 2)

    def curve(t: NDArray[np.float64]) -> NDArray[np.float64]:
        return (weight(t) - value - slope * t) / (t * (1 - t))

    fitted = Chebyshev.interpolate(curve, NODES - 1, domain=[0, 1])
    powers = fitted.convert(kind=Polynomial)(Polynomial([0.5, 1.0]))
    return np.array([value, slope, *powers.coef])


def _lanczos3(tap: int, t: NDArray[np.float64]) -> NDArray[np.float64]:
    """sinc(d) sinc(d / 3), divided by the sum over the six pixels."""
    distances = [t + 2 - i for i in range(6)]
    weights = [np.sinc(d) * np.sinc(d / 3) for d in distances]
    return weights[tap] / np.sum(weights, axis=0)

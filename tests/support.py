"""Makes docs/support.md: what `sample` supports, each cell of it run and compared.

    STN_JAX_CPU=on python tests/support.py > docs/support.md

Each method, padding mode, number of dimensions and dtype samples a small image of whole
numbers at some points, inside and outside. A cell lists the dtypes whose results agree
with plain float64 loops (for splines with SciPy), to the dtype's rounding. The last
column lists the dtypes that the compiled CPU kernel samples.
"""

import contextlib
from functools import partial
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import references
from conftest import enable_x64
from scipy import ndimage

from stn_jax import _batching, sample
from stn_jax.sampling.kernels import METHODS, SPLINES
from stn_jax.sampling.padding import RULES

SIZES = {2: (4, 3), 3: (2, 3, 4)}
FILL = 1
TOLERANCES = {
    "float64": 1e-10,
    "float32": 1e-5,
    "bfloat16": 2**-7,
    "float16": 2**-10,
    "complex64": 1e-5,
    "complex128": 1e-10,
}
DISCRETE = ("uint8", "int8", "int16", "int32", "bool")
LETTERS = {
    "f": ("float64", "float32", "bfloat16", "float16"),
    "c": ("complex64", "complex128"),
    "i": ("uint8", "int8", "int16", "int32"),
    "b": ("bool",),
}
PADDED = {
    "zeros": {"mode": "constant"},
    "constant": {"mode": "constant", "constant_values": FILL},
    "border": {"mode": "edge"},
    "reflection": {"mode": "symmetric"},
    "wrap": {"mode": "wrap"},
}


def keys(a):
    """Keys' cubic convolution kernel."""

    def weight(d):
        d = abs(d)
        if d <= 1:
            return (a + 2) * d**3 - (a + 3) * d**2 + 1
        return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0

    return weight


def windowed_sinc(d):
    return np.sinc(d) * np.sinc(d / 3) if abs(d) < 3 else 0.0


# half-width and weight of each kernel, by its definition
KERNELS = {
    "nearest": (0.5, lambda d: float(-0.5 <= d < 0.5)),
    "bilinear": (1, lambda d: max(0.0, 1 - abs(d))),
    "bicubic": (2, keys(-0.75)),
    "catmull_rom": (2, keys(-0.5)),
    "lanczos3": (3, windowed_sinc),
}


def inputs(ndim):
    """An image of whole numbers and points around it, in pixels."""
    rng = np.random.default_rng(ndim)
    size = SIZES[ndim]
    points = rng.uniform(-3, 6, size=(*(1,) * (ndim - 1), 4, ndim))
    return rng.integers(0, 9, size=(*size, 1)), points.astype(np.float32)


def oracle(method, padding_mode, ndim):
    """What the definition gives, in float64."""
    image, points = inputs(ndim)
    image, points = image.astype(float), points.astype(float)
    if method in SPLINES:
        padded = np.pad(image[..., 0], 40, **PADDED[padding_mode])
        where = np.moveaxis(points[..., ::-1], -1, 0) + 40
        options = {"order": SPLINES[method], "mode": "mirror"}
        return ndimage.map_coordinates(padded, where, **options)[..., None]
    support, weight = KERNELS[method]

    def sampled(image, padding_mode):
        arguments = (points, weight, support, padding_mode, FILL)
        return references.sample_pixels(image, *arguments)

    out = sampled(image, padding_mode)
    if method == "lanczos3":
        out = out / sampled(np.ones_like(image), "border")
    return out


def supported(method, padding_mode, ndim):
    """The dtypes that work, and work rightly."""
    image, points = inputs(ndim)
    truth = oracle(method, padding_mode, ndim)
    works = []
    for dtype in (*TOLERANCES, *DISCRETE):
        fill = FILL if padding_mode == "constant" else 0
        pixels, expected = image, truth
        if dtype.startswith("complex"):
            pixels, expected, fill = (x * (1 + 2j) for x in (image, truth, fill))
        if dtype == "bool":
            pixels, expected = image % 2, truth % 2
        options = {"method": method, "padding_mode": padding_mode, "fill_value": fill}
        try:
            pixels = jnp.asarray(pixels).astype(dtype)
            out = sample(pixels, points, coordinates="pixel", **options)
        except TypeError:  # integers would be rounded
            continue
        error = np.abs(np.asarray(out, expected.dtype) - expected).max()
        bound = TOLERANCES.get(dtype, 0) * max(1, np.abs(expected).max())
        if out.dtype == dtype and error <= bound:
            works.append(dtype)
    return works


def compiled(method, ndim):
    """The dtypes that the compiled CPU kernel takes, under every padding mode."""
    image, points = inputs(ndim)
    takes = []
    for dtype in (*TOLERANCES, *DISCRETE):
        pixels = jnp.asarray(image).astype(dtype)

        def calls(mode, pixels=pixels):
            options = {"method": method, "coordinates": "pixel", "padding_mode": mode}
            program = jax.jit(partial(sample, **options))
            return "stn_jax_cpu_" in program.lower(pixels, points).as_text()

        with contextlib.suppress(TypeError):
            takes += [dtype] if all(map(calls, RULES)) else []
    return takes


def cell(works):
    """The letters of whole kinds of dtypes, the names of the rest."""
    text = []
    for letter, dtypes in LETTERS.items():
        there = [dtype for dtype in dtypes if dtype in works]
        text += [letter] if len(there) == len(dtypes) else there
    return " ".join(text) or "none"


def rows(method):
    """A method's lines of the table."""
    # step by step: compiling each cell as a program would take minutes
    plain = mock.patch.object(_batching, "_compiled", _batching._vectorized)
    with enable_x64(), plain:
        for ndim in (2, 3):
            cells = [cell(supported(method, mode, ndim)) for mode in RULES]
            cells.append(cell(compiled(method, ndim)))
            yield " | ".join([f"| `{method}`", f"{ndim}-D", *cells]) + " |"


HEADER = """# What `sample` supports

This page shows which methods, padding modes and dtypes `sample` supports. A cell lists
the dtypes of images that work, correct to their own rounding:

- f: float64, float32, bfloat16, float16
- c: complex64, complex128
- i: uint8, int8, int16, int32
- b: bool

Each axis can have its own padding mode. Coordinates and weights are computed in float32
or better for every dtype. A custom `Kernel` works wherever `bilinear` does.

The last column lists what [the compiled CPU kernel](speed.md#the-compiled-cpu-kernel)
samples. The rest, and a custom `Kernel`, is sampled by plain JAX.

Made by `STN_JAX_CPU=on python tests/support.py > docs/support.md`, which runs every
cell and compares it with plain float64 loops, splines with SciPy. A test checks that
the page is current.
"""


def main() -> None:
    """The page, on stdout."""
    print(HEADER)
    columns = [*(f"`{mode}`" for mode in RULES), "kernel"]
    print(" | ".join(["| method", "", *columns]) + " |")
    print("|---" * (2 + len(columns)) + "|")
    for method in METHODS:
        print("\n".join(rows(method)))


if __name__ == "__main__":
    main()

"""Spatial transformers for JAX: differentiable grids and image sampling.

Conventions, the same in every function:

- ``image`` is ``(*batch, H, W, C)``, channels last; volumes ``(*batch, D, H, W, C)``.
- ``grid`` is ``(*batch, h, w, 2)``, last axis ``(x, y)``; for volumes ``(*batch, d, h,
  w, 3)``, last axis ``(x, y, z)``; normalized: -1 and 1 are the borders of the image.
- A grid goes from output to input: ``grid[i, j]`` is the point of the input at which
  output pixel (i, j) is sampled, the paper's T_theta(G).
- ``theta`` is absolute: affine ``(*batch, 2, 3)`` or ``(*batch, 3, 4)``, the identity
  ``[[1, 0, 0], [0, 1, 0]]``; projective ``(*batch, 3, 3)`` or ``(*batch, 4, 4)``; for
  thin plate splines the positions of the control points in the input, ``(*batch, K,
  2)`` or ``(*batch, K, 3)``, the identity the control lattice itself.
- ``size`` is ``(height, width)`` or ``(depth, height, width)``, static.
- ``align_corners``, False by default, means what it means in PyTorch: whether -1 and 1
  are the centers of the outermost pixels or the edges of the image.
- Leading axes are batch axes; those of two inputs broadcast against each other.
- Coordinates and weights are computed in float32 or better; images keep their dtype.

Where things are. Each file imports only from those above it, and each folder lists its
own files in the same way::

    _types       type aliases: Image, Grid, Theta, Params, Size
    _checks      validation of arguments
    _batching    from one example to any leading axes
    coordinates  pixels <-> [-1, 1]; decides what align_corners means
    matrices     matrices of other libraries and conventions
    world        matrices in world coordinates, as of medical volumes
    grids/       WHERE each output pixel is sampled
    sampling/    WHAT is sampled there
    transforms/  PARAMETERS -> grid: families of transformations
    rotating     rotations, zooms and flips in pixels
    fitting/     POINTS -> parameters: least squares
    inverting    invert_points: where key points land
    warping      warp: a family and a sampler in one call
    drawing      pictures of grids, fields and kernels
    pooling      pooling layers of the localization networks
    nnx          Flax NNX modules
    linen        Flax Linen modules
    cpu/         the command python -m stn_jax.cpu
"""

# ruff: isort: skip_file

import importlib
from typing import TYPE_CHECKING, Any

# sampling grids: where each output pixel is sampled
from .grids import affine_grid, projective_grid, tps_grid, flow_grid, basis_grid
from .grids import control_lattice

# samplers: what is sampled there
from .sampling import bilinear_sample, sample, Sampler, Kernel

# coordinates: pixels and [-1, 1]
from .coordinates import identity_grid, inside, to_normalized, to_pixels

# parameters from corresponding points
from .fitting import fit_affine, fit_projective, fit_rank, fit_similarity, fit_tps

# matrices of other conventions: pixels, align_corners, resolutions, voxel spacings
from . import matrices
from .matrices import convert, from_pixel, to_pixel
from .world import from_world

# families of transformations, and their inverse at points
from . import transforms
from .inverting import invert_points

# rotations, zooms and flips in pixels
from .rotating import from_rotation, rotated_size

# a family's grid and a sampler in one call
from .warping import warp

# pictures of grids, fields and kernels; imports Matplotlib when they are drawn
from . import drawing

if TYPE_CHECKING:
    from . import linen, nnx

__version__ = "0.1.0"

__all__ = [
    "Kernel",
    "Sampler",
    "affine_grid",
    "basis_grid",
    "bilinear_sample",
    "control_lattice",
    "convert",
    "drawing",
    "fit_affine",
    "fit_projective",
    "fit_rank",
    "fit_similarity",
    "fit_tps",
    "flow_grid",
    "from_pixel",
    "from_rotation",
    "from_world",
    "identity_grid",
    "inside",
    "invert_points",
    "linen",
    "matrices",
    "nnx",
    "projective_grid",
    "rotated_size",
    "sample",
    "to_normalized",
    "to_pixel",
    "to_pixels",
    "tps_grid",
    "transforms",
    "warp",
]


def __getattr__(name: str) -> Any:
    """Import the Flax modules, ``nnx`` and ``linen``, at their first use."""
    if name in ("nnx", "linen"):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names alone; the folders stay importable."""
    return [*__all__, "__version__"]

"""Spatial transformers for JAX: differentiable grids and image sampling.

Conventions, the same in every function:

- ``image`` is ``(*batch, H, W, C)``, channels last; volumes ``(*batch, D, H, W, C)``.
- ``grid`` is ``(*batch, h, w, 2)``, last axis ``(x, y)``; for volumes ``(*batch, d, h,
  w, 3)``, last axis ``(x, y, z)``; normalized: -1 and 1 are the borders of the image.
- A grid goes from output to input: ``grid[i, j]`` says where in the input the output
  pixel (i, j) is read, the paper's T_theta(G).
- ``theta`` is absolute: affine ``(*batch, 2, 3)`` or ``(*batch, 3, 4)``, the identity
  ``[[1, 0, 0], [0, 1, 0]]``; projective ``(*batch, 3, 3)`` or ``(*batch, 4, 4)``; for
  thin plate splines the positions of the control points in the input, ``(*batch, K,
  2)`` or ``(*batch, K, 3)``, the identity the control lattice itself.
- ``size`` is ``(height, width)`` or ``(depth, height, width)``, static.
- ``align_corners``, False by default, means what it means in PyTorch: whether -1 and 1
  are the centers of the outermost pixels or the edges of the image.
- Leading axes are batch axes; those of two inputs broadcast against each other.
- Coordinates and weights are computed in float32 or better; images keep their dtype.
"""

# ruff: isort: skip_file

import importlib
from typing import Any

# sampling grids: where each output pixel is read
from .affine import affine_grid as affine_grid
from .affine import basis_grid as basis_grid
from .projective import projective_grid as projective_grid
from .flow import flow_grid as flow_grid
from .tps import tps_grid as tps_grid
from .tps import control_lattice as control_lattice

# samplers: what is read there
from .sampling import bilinear_sample as bilinear_sample
from .sampling import sample as sample
from .kernels import Kernel as Kernel

# coordinates: pixels and [-1, 1]
from .coordinates import identity_grid as identity_grid
from .coordinates import inside as inside
from .coordinates import to_normalized as to_normalized
from .coordinates import to_pixels as to_pixels

# transformations from corresponding points
from .fitting import fit_affine as fit_affine
from .fitting import fit_projective as fit_projective
from .fitting import fit_rank as fit_rank
from .fitting import fit_similarity as fit_similarity
from .fitting import fit_tps as fit_tps

# matrices between conventions: pixels, corners, resolutions
from . import matrices as matrices
from .matrices import convert as convert
from .matrices import from_pixel as from_pixel
from .matrices import to_pixel as to_pixel

# families of transformations: parameters -> grid, and the two steps in one
from . import transforms as transforms
from .warping import warp as warp

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """The modules, ``nnx`` and ``linen``, import Flax only when they are asked for."""
    if name in ("nnx", "linen"):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

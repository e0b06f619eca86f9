"""Sampling grids: where each output pixel is sampled in the input.

The files in order of imports::

    affine      affine_grid, eq. (1)
    basis       basis_grid: any transformation that is linear in its parameters
    projective  projective_grid
    flow        flow_grid
    tps         tps_grid, control_lattice
"""

from .affine import affine_grid as affine_grid
from .basis import basis_grid as basis_grid
from .flow import flow_grid as flow_grid
from .projective import projective_grid as projective_grid
from .tps import control_lattice as control_lattice
from .tps import tps_grid as tps_grid

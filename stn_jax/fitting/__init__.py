"""Parameters of transformations from corresponding points.

The files in order of imports::

    least_squares  small systems that may be singular, and remain differentiable
    solvers        one set of corresponding points
    api            fit_affine, fit_projective, fit_similarity, fit_tps, fit_rank
"""

from .api import fit_affine as fit_affine
from .api import fit_projective as fit_projective
from .api import fit_rank as fit_rank
from .api import fit_similarity as fit_similarity
from .api import fit_tps as fit_tps

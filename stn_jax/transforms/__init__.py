"""Families of transformations: flat parameters, as a network gives them, to grids.

A family is a small frozen dataclass. Any class with these three members is one, and
works in the modules and in :func:`~stn_jax.warp`:

- ``num_params``: P, the number of parameters of one transformation;
- ``identity``: the parameters ``(P,)`` of the identity, where a layer starts;
- ``grid(params, size, *, align_corners=False)``: the sampling grids of ``(*batch, P)``.

The families of this package also have ``apply(params, points)``, for key points and
boxes. Those of matrices, :class:`Translation`, :class:`Attention`, :class:`Rigid`,
:class:`Similarity`, :class:`Affine` and :class:`Projective`, have four more members:
``matrix(params)``, ``params(matrix)``, ``inverse(params)`` and ``compose(a, b)``.
Families whose ``is_axis_aligned`` is True can be warped with ``antialias=True``.

All map output to input, in normalized coordinates.

The files in order of imports::

    rotations          angles and rotation vectors to matrices and back
    base               Transform, the protocol; what follows from a family's matrices
    matrix_families    Translation, Attention, Affine, Projective
    rigid              Rigid, Similarity
    thin_plate_spline  ThinPlateSpline
    displacement       Displacement
    chain              Chain
    tiles              tiles, parameters of windows that tile the image
    boxes              from_boxes, to_boxes: windows that crop boxes
"""

from .base import Transform as Transform
from .boxes import from_boxes as from_boxes
from .boxes import to_boxes as to_boxes
from .chain import Chain as Chain
from .displacement import Displacement as Displacement
from .matrix_families import Affine as Affine
from .matrix_families import Attention as Attention
from .matrix_families import Projective as Projective
from .matrix_families import Translation as Translation
from .rigid import Rigid as Rigid
from .rigid import Similarity as Similarity
from .thin_plate_spline import ThinPlateSpline as ThinPlateSpline
from .tiles import tiles as tiles

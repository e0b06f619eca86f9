"""Which CPU kernel samples: the command ``python -m stn_jax.cpu``, also in Python.

See :mod:`stn_jax.sampling.cpu`.
"""

from .report import PLAIN as PLAIN
from .report import report as report
from .report import used as used

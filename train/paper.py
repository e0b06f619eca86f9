"""The paper's test errors in percent, by task and model name.

From table 1, and table 4 of appendix A.1, of arXiv 1506.02025v3. The errors on TC with
a transformer are from the text, which does not name the transformation.
"""

from __future__ import annotations

from .configs import Task

_TABLE_1: dict[str, tuple[float | None, ...]] = {
    "fcn": (2.1, 5.2, 3.1, 3.2, 13.2),
    "cnn": (1.2, 0.8, 1.5, 1.4, 3.5),
    "st_fcn-affine": (1.2, 0.8, 1.5, 2.7, 2.0),
    "st_fcn-projective": (1.3, 0.9, 1.4, 2.6, None),
    "st_fcn-tps": (1.1, 0.8, 1.4, 2.4, None),
    "st_cnn-affine": (0.7, 0.5, 0.8, 1.2, 1.7),
    "st_cnn-projective": (0.8, 0.6, 0.8, 1.3, None),
    "st_cnn-tps": (0.7, 0.5, 0.8, 1.1, None),
}
_TABLE_4: dict[str, float] = {
    "fcn": 47.7,
    "cnn": 14.7,
    "st_fcn-affine": 22.6,
    "st_fcn-projective": 18.5,
    "st_fcn-tps": 19.1,
    "2xst_fcn-affine": 9.0,
    "2xst_fcn-projective": 5.9,
    "2xst_fcn-tps": 5.8,
}
_TASKS: tuple[Task, ...] = ("r", "rts", "p", "e", "tc")

_OF_TABLE_1: dict[tuple[Task, str], float] = {
    (task, model): value
    for model, values in _TABLE_1.items()
    for task, value in zip(_TASKS, values, strict=True)
    if value is not None
}
_OF_TABLE_4: dict[tuple[Task, str], float] = {
    ("addition", model): value for model, value in _TABLE_4.items()
}
ERRORS = _OF_TABLE_1 | _OF_TABLE_4

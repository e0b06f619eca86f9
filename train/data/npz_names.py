"""The names of the arrays in an .npz file: expected ones, mapped ones, proposals."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from ..errors import DataError

PARTS = {
    "train": ("x_train", "y_train"),
    "test": ("x_test", "y_test"),
    "validation": ("x_val", "y_val"),
}
REQUIRED = (*PARTS["train"], *PARTS["test"])
OPTIONAL = (*PARTS["validation"], "classes")
# names with the same meaning, which Keras and scikit-learn users write
SYNONYMS = {
    f"{kind}_val": tuple(f"{kind}_{part}" for part in ("val", "valid", "validation"))
    for kind in "xy"
}

# other common names, letters only; they are proposed, not used
_WORDS = {
    "x": ("x", "image", "images", "img", "imgs", "data", "features", "inputs"),
    "y": ("y", "label", "labels", "target", "targets"),
    "train": ("train", "training", "tr"),
    "test": ("test", "testing", "te"),
    "val": ("val", "valid", "validation", "dev"),
}
_COMMON = {
    name: f"{kind}_{part}"
    for kind in ("x", "y")
    for part in ("train", "test", "val")
    for word in _WORDS[kind]
    for of in _WORDS[part]
    for name in (word + of, of + word)
}


def file_names(
    path: Path, present: Sequence[str], keys: Sequence[str] = ()
) -> dict[str, str]:
    """Find the file's name of each array that a dataset is made of.

    Args:
      path: the file, for errors.
      present: the names in the file.
      keys: pairs such as "x_train=images".

    Returns:
      The file's names by x_train, ..., and x_val, y_val and classes if they exist.

    Raises:
      DataError: a name is missing, ambiguous or unknown.
    """
    names = _mapped(path, present, keys)
    for role in (*REQUIRED, *OPTIONAL):
        found = [name for name in SYNONYMS.get(role, (role,)) if name in present]
        if role not in names and len(found) > 1:
            raise DataError(
                f"{path} holds {' and '.join(found)}: name one with --keys "
                f"{role}={found[0]}."
            )
        if role not in names and found:
            names[role] = found[0]
    pair = PARTS["validation"]
    needed = REQUIRED + (pair if any(role in names for role in pair) else ())
    if missing := [role for role in needed if role not in names]:
        raise DataError(
            f"{path} lacks {', '.join(missing)}; it holds {listed(present)}."
            + _proposal(missing, present)
        )
    for name in names.values():
        if (count := list(present).count(name)) > 1:
            raise DataError(f"{path} holds {count} arrays named {shortened(name)}.")
    return names


def _mapped(path: Path, present: Sequence[str], keys: Sequence[str]) -> dict[str, str]:
    """The pairs of ``--keys``, after a check of both sides."""
    names: dict[str, str] = {}
    for pair in keys:
        role, equals, name = pair.partition("=")
        if not equals or not name:
            raise DataError(f"--keys takes pairs such as x_train=images; got {pair!r}.")
        if role not in REQUIRED + OPTIONAL:
            raise DataError(
                f"--keys {pair}: the name before = must be one of "
                f"{', '.join(REQUIRED + OPTIONAL)}; got {role!r}."
            )
        if role in names:
            raise DataError(f"--keys names {role} twice: {names[role]} and {name}.")
        if name not in present:
            raise DataError(
                f"--keys {pair}: {path} holds no {name}; it holds {listed(present)}."
            )
        names[role] = name
    return names


def _proposal(missing: Sequence[str], present: Sequence[str]) -> str:
    """The option that maps other common names, as far as they are unambiguous."""
    found: dict[str, list[str]] = {}
    for name in present:
        role = _COMMON.get(re.sub("[^a-z]", "", name.lower()))
        if role and name not in SYNONYMS.get(role, (role,)):
            found.setdefault(role, []).append(name)
    unique = {role: names[0] for role, names in found.items() if len(names) == 1}
    if any(role in unique for role in missing):
        roles = dict.fromkeys((*missing, *PARTS["validation"]))
        pairs = [f"{role}={unique[role]}" for role in roles if role in unique]
        return f" Map its names with --keys {shlex.join(pairs)}"
    return (
        " Map other names with --keys, for instance --keys x_train=images; a dataset "
        "needs training and test images."
    )


def listed(names: Sequence[str], most: int = 12) -> str:
    """The first names, for a message."""
    some = ", ".join(map(shortened, names[:most])) or "nothing"
    return some + (f" and {len(names) - most} more" if len(names) > most else "")


def shortened(name: str, longest: int = 60) -> str:
    """A name for a message, cut if it is long."""
    return name if len(name) <= longest else name[: longest - 3] + "..."

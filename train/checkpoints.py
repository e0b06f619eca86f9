"""The state of a training on disk, so that it can be stopped at any moment."""

from __future__ import annotations

import hashlib
import io
import json
import warnings
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from .folder import Folder

KEPT = 2  # states; the second serves if the latest is corrupt
DIGEST = hashlib.sha256().digest_size


class Checkpoint:
    """The last two states of a training: arrays by name, and a JSON record.

    Each state is one file, ``NAME/STEP.state``: the SHA-256 digest of the rest, which
    is an .npz archive.
    """

    def __init__(self, folder: Folder, name: str) -> None:
        self.folder, self.name = folder, name

    @property
    def files(self) -> list[str]:
        """The names of the files, the latest state first."""
        own = [f for f in self.folder.files if f.startswith(f"{self.name}/")]
        return sorted(own, key=_step, reverse=True)

    def save(
        self, step: int, arrays: Mapping[str, np.ndarray], record: Mapping[str, Any]
    ) -> None:
        """Write a state; of the earlier ones only the latest is kept."""
        buffer = io.BytesIO()
        texts: dict[str, Any] = {"record": np.array(json.dumps(record))}
        np.savez(buffer, **arrays, **texts)
        content = buffer.getvalue()
        content = hashlib.sha256(content).digest() + content
        self.folder.write(
            f"{self.name}/{step}.state", lambda path: path.write_bytes(content)
        )
        for name in self.files[KEPT:]:
            self.folder.remove(name)

    def load(self) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """The latest state that is not corrupt, as arrays and record; None if none."""
        for name in self.files:
            path = self.folder.path / name
            if not path.exists():  # the program was stopped before it wrote it
                continue
            try:
                content = path.read_bytes()
                if hashlib.sha256(content[DIGEST:]).digest() == content[:DIGEST]:
                    return _arrays_and_record(content[DIGEST:])
                reason = "its digest does not match"
            except OSError as error:
                reason = str(error.strerror)
            warnings.warn(
                f"{path} is corrupt ({reason}); the state before it is used",
                stacklevel=2,
            )
        return None

    def remove(self) -> None:
        """Remove all states."""
        for name in self.files:
            self.folder.remove(name)


def _step(name: str) -> int:
    return int(PurePosixPath(name).stem)


def _arrays_and_record(content: bytes) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        arrays = dict(archive)
    return arrays, json.loads(arrays.pop("record").item())

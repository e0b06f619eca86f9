"""The state of a training on disk, so that it can be stopped at any moment."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import orbax.checkpoint as ocp

from ..errors import OutputError
from .folder import Folder

KEPT = 2  # states; the second serves if the latest is corrupt
# of several processes only the first calls Orbax, which must not wait for the others
ALONE = ocp.options.MultiprocessingOptions(
    primary_host=0, active_processes={0}, barrier_sync_key_prefix="first"
)

State = tuple[dict[str, np.ndarray], dict[str, Any]]


class Checkpoint:
    """The last two states of a training: arrays by name, and a JSON record.

    Each state is a folder that Orbax writes, ``NAME/STEP``. It also holds the SHA-256
    digest of each array and of the record, as Orbax does not notice a flipped bit.
    """

    def __init__(self, folder: Folder, name: str) -> None:
        self.folder, self.name = folder, name

    @property
    def steps(self) -> list[int]:
        """The steps of the complete states, the latest first."""
        missing = {
            self._step(name)
            for name in self._files
            if not (self.folder.path / name).is_file()
        }
        return sorted({self._step(name) for name in self._files} - missing)[::-1]

    def check(self) -> None:
        """Raise OutputError if a file of someone else is among the states."""
        root = self.folder.path
        paths = (path for path in (root / self.name).rglob("*") if not path.is_dir())
        self.folder.check(path.relative_to(root).as_posix() for path in paths)

    def save(
        self, step: int, arrays: Mapping[str, np.ndarray], record: Mapping[str, Any]
    ) -> None:
        """Write a state; of the earlier ones only the latest is kept.

        At least one of the arrays must have elements.

        Raises:
          OutputError: the state cannot be written. The earlier ones are kept.
        """
        earlier = [other for other in self.steps if other < step]
        self._keep(earlier)  # later states are incomplete or corrupt
        # The marker must list a file before it is in the folder, and only Orbax knows
        # the names of its files. So Orbax writes to a temporary folder first.
        try:
            with TemporaryDirectory(prefix="stn_jax-") as temporary:
                state = Path(temporary).absolute() / str(step)
                _write_state(state, arrays, record)
                self.folder.copy(state, f"{self.name}/{step}")
        except OutputError:
            self._keep(earlier)
            raise
        except (OSError, ValueError, RuntimeError) as error:  # Orbax's, on a full disk
            raise OutputError(f"the state cannot be written: {error}") from error
        self._keep([step, *earlier][:KEPT])

    def load(self) -> State | None:
        """The latest state that is not corrupt, as arrays and record; None if none."""
        for step in self.steps:
            path = self.folder.path / self.name / str(step)
            try:
                return _read_state(path.absolute())
            except (ValueError, KeyError, TypeError, OSError) as error:
                warnings.warn(
                    f"{path} is corrupt ({error}); the state before it is used",
                    stacklevel=2,
                )
        return None

    def remove(self) -> None:
        """Remove all states."""
        self._keep([])

    @property
    def _files(self) -> list[str]:
        return [f for f in self.folder.files if f.startswith(f"{self.name}/")]

    def _step(self, name: str) -> int:
        return int(name.removeprefix(f"{self.name}/").split("/")[0])

    def _keep(self, steps: Collection[int]) -> None:
        self.folder.remove(*(f for f in self._files if self._step(f) not in steps))


def _checkpointer() -> ocp.Checkpointer:
    arrays = ocp.StandardCheckpointHandler(multiprocessing_options=ALONE)
    record = ocp.JsonCheckpointHandler(multiprocessing_options=ALONE)
    handler = ocp.CompositeCheckpointHandler(
        composite_options=ocp.CompositeOptions(multiprocessing_options=ALONE),
        arrays=arrays,
        record=record,
    )
    return ocp.Checkpointer(handler, multiprocessing_options=ALONE)


def _write_state(
    path: Path, arrays: Mapping[str, np.ndarray], record: Mapping[str, Any]
) -> None:
    empty = {k: (x.dtype.name, x.shape) for k, x in arrays.items() if x.size == 0}
    digests = {name: _digest(x) for name, x in arrays.items()}
    text = json.dumps({"record": record, "empty": empty, "digests": digests})
    filled = {name: x for name, x in arrays.items() if x.size}  # Orbax takes no others
    with _checkpointer() as checkpointer:
        checkpointer.save(
            path,
            args=ocp.args.Composite(
                arrays=ocp.args.StandardSave(filled),
                record=ocp.args.JsonSave({"text": text, "digest": _sha256(text)}),
            ),
        )


def _read_state(path: Path) -> State:
    with _checkpointer() as checkpointer:
        saved = checkpointer.restore(
            path,
            args=ocp.args.Composite(
                arrays=ocp.args.StandardRestore(), record=ocp.args.JsonRestore()
            ),
        )
    text = saved["record"]["text"]
    if saved["record"]["digest"] != _sha256(text):
        raise ValueError("the digest of its record does not match")
    content = json.loads(text)
    arrays = {name: np.asarray(x) for name, x in saved["arrays"].items()}
    for name, (dtype, shape) in content["empty"].items():
        arrays[name] = np.zeros(shape, dtype)
    if content["digests"] != {name: _digest(x) for name, x in arrays.items()}:
        raise ValueError("the digests of its arrays do not match")
    return arrays, content["record"]


def _digest(array: np.ndarray) -> str:
    kind = f"{array.dtype.name} {array.shape} ".encode()
    return hashlib.sha256(kind + array.tobytes()).hexdigest()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

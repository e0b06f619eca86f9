"""A run's state on disk, so that it can be stopped at any moment."""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orbax.checkpoint as ocp


class Checkpoint:
    """The latest states that were saved in a folder: arrays by name, and a record.

    Orbax writes each whole or not at all. A digest of every array goes into the record,
    as Orbax restores a flipped bit without a word; what does not match is passed over
    for the state before it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._manager = ocp.CheckpointManager(
            self.folder,
            options=ocp.CheckpointManagerOptions(
                max_to_keep=2, enable_async_checkpointing=False
            ),
        )

    def save(
        self, step: int, arrays: Mapping[str, np.ndarray], record: Mapping[str, Any]
    ) -> None:
        """Keep this state, and the one before it."""
        record = {"record": record, "digests": _digests(arrays)}
        record["empty"] = {n: x.shape for n, x in arrays.items() if x.size == 0}
        self._manager.save(
            step,
            args=ocp.args.Composite(
                arrays=ocp.args.StandardSave(
                    {n: x for n, x in arrays.items() if x.size}  # it takes no others
                ),
                record=ocp.args.JsonSave({"text": json.dumps(record)}),
            ),
            force=True,
        )

    def load(self) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """The latest state that is sound; None where there is none."""
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                saved = self._manager.restore(
                    step,
                    args=ocp.args.Composite(
                        arrays=ocp.args.StandardRestore(),
                        record=ocp.args.JsonRestore(),
                    ),
                )
                arrays = {name: np.asarray(x) for name, x in saved["arrays"].items()}
                record = json.loads(saved["record"]["text"])
                arrays |= {n: np.zeros(s) for n, s in record["empty"].items()}
                if record["digests"] == _digests(arrays):
                    return arrays, record["record"]
                reason = "its arrays are not those that were saved"
            except (ValueError, KeyError, TypeError, OSError) as error:
                reason = str(error)
            warnings.warn(
                f"{self.folder}: the state of step {step} is unsound, so that the one "
                f"before it is taken: {reason}",
                stacklevel=2,
            )
        return None

    def remove(self) -> None:
        """Delete them all."""
        self._manager.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def _digests(arrays: Mapping[str, np.ndarray]) -> dict[str, str]:
    return {
        name: hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
        for name, array in sorted(arrays.items())
    }

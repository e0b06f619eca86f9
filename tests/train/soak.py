"""Kill, starve and corrupt trainings for some minutes: ``make soak``.

It counts how many faults were tried and how many trainings survived, and writes the
counts to ``runs/faults.json``.
"""

from __future__ import annotations

import itertools
import json
import random
import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import tyro
from conftest import ROOT
from faults import (
    RUN,
    command,
    environment,
    results_of,
    rows_of,
    run,
    saved_step,
    start,
    stop,
    tmpfs,
    wait_for_rows,
)

from train.data import load
from train.errors import ResultsError
from train.experiments import CONFIGS
from train.storage import artifacts
from train.storage.checkpoints import Checkpoint
from train.storage.folder import Folder
from train.storage.weights import load_model

KILLED = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def killed(whole: Path, out: Path, chance: random.Random, counts: Counter) -> None:
    """One run, killed again and again until it ends; compared with the whole run."""
    at = 0
    while True:
        process = start([*RUN, "--out", str(out), *(["--resume"] if at else [])])
        wait_for_rows(process, out, at // 10 + 1 + chance.randrange(4))
        time.sleep(0.3 * chance.random())
        number = chance.choice(KILLED)
        stop(process, number)
        if process.returncode == 0 or (out / "results.json").exists():
            break
        counts[f"{number.name} tried"] += 1
        rows, before = rows_of(out), at
        at = saved_step(out)
        is_kept = at >= before and (len(rows) < 2 or at >= rows[-2]["step"])
        counts[f"{number.name} {'survived' if is_kept else 'LOST'}"] += 1
    run([*RUN, "--out", str(out), "--resume"])
    is_same = results_of(out) == results_of(whole)
    counts["runs ended with the bits of the undisturbed run"] += is_same
    counts["runs ended with OTHER results"] += not is_same


def full(whole: Path, folder: Path, chance: random.Random, counts: Counter) -> None:
    """One run on a disk that is too small; continued where there is space."""
    words = tmpfs(f"{chance.randrange(300, 4000)}k")
    if words is None:
        return
    disk, after = folder / "disk", folder / "after"
    disk.mkdir()
    words += ["sh", "-c", f'"$@"; status=$?; cp -r {disk} {after}; exit $status', "-"]
    done = subprocess.run(
        [*words, *command([*RUN, "--out", str(disk / "out")])],
        cwd=ROOT,
        env=environment() | {"SMALL_DISK": str(disk)},
        capture_output=True,
    )
    counts["full disks tried"] += 1
    if done.returncode and (after / "out").exists():
        run([*RUN, "--out", str(after / "out"), "--resume"])
    out = after / "out"
    is_same = not out.exists() or results_of(out) == results_of(whole)
    counts[f"full disks {'survived' if is_same else 'LOST'}"] += 1


def corrupted_states(folder: Path, chance: random.Random, counts: Counter) -> None:
    """Flip bits of, and cut, the files of saved states."""
    states = Folder(folder / "states", "run")
    states.begin({})
    checkpoint = Checkpoint(states, "state")
    for step in (1, 2):
        checkpoint.save(step, {"x": _noise(step)}, {"step": step})
    for path in sorted((states.path / "state" / "2").rglob("*")):
        for damage in damages(path, chance) if path.is_file() else ():
            whole = path.read_bytes()
            path.write_bytes(damage)
            counts["damages of states tried"] += 1
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                loaded = checkpoint.load()
            is_true = loaded is not None and all(
                (loaded[0]["x"] == _noise(loaded[1]["step"])).tolist()
            )
            counts[f"damages of states {'survived' if is_true else 'LOST'}"] += 1
            path.write_bytes(whole)


def _noise(step: int) -> np.ndarray:
    return np.random.default_rng(step).normal(size=5_000)


def corrupted_weights(
    whole: Path, folder: Path, chance: random.Random, counts: Counter
) -> None:
    """Flip bits of, and cut, weights and cards."""
    (model,) = (whole / "models").iterdir()
    copied = shutil.copytree(model, folder / "model")
    for path in sorted(copied.iterdir()):
        whole_file = path.read_bytes()
        for damage in damages(path, chance):
            path.write_bytes(damage)
            counts["damages of weights and cards tried"] += 1
            try:
                load_model(copied / path.name.removesuffix(".json"))
                counts["damages of weights and cards USED"] += 1
            except ResultsError:
                counts["damages of weights and cards refused"] += 1
        path.write_bytes(whole_file)


def damages(path: Path, chance: random.Random, count: int = 8):
    """The content of a file with a bit flipped, and with its end cut off."""
    content = path.read_bytes()
    for _ in range(count if content else 0):
        at = chance.randrange(len(content))
        changed = bytearray(content)
        changed[at] ^= 1 << chance.randrange(8)
        yield bytes(changed)
        yield content[:at]


def main(
    minutes: float = 20.0, seed: int = 0, out: Path = Path("runs/faults.json")
) -> None:
    """Disturb trainings for so many minutes, and write how many survived."""
    chance, counts = random.Random(seed), Counter()
    end = time.monotonic() + 60 * minutes
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        run([*RUN, "--out", str(folder / "whole")])
        whole = folder / "whole"
        for number in itertools.count():
            if time.monotonic() > end:
                break
            part = folder / str(number)
            part.mkdir()
            killed(whole, part / "out", chance, counts)
            full(whole, part, chance, counts)
            corrupted_states(part, chance, counts)
            corrupted_weights(whole, part, chance, counts)
            print(json.dumps(counts, indent=1), flush=True)
    config = CONFIGS["rts-st_fcn-affine"][1]
    origin = artifacts.provenance("faults", config, load("digits"))
    kept = {k: origin[k] for k in ("date", "device", "versions", "commit")}
    command = f"make soak MINUTES={minutes:g}"
    content = {"command": command, **kept, "seed": seed}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(content | {"counts": counts}, indent=2) + "\n")


if __name__ == "__main__":
    tyro.cli(main)

"""docs/migration.md: each of its rows, executed where the library is installed."""

import importlib
import os
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT

import stn_jax
from stn_jax import transforms

PAGE = (ROOT / "docs" / "migration.md").read_text()
PACKAGES = {
    "torch": ["torch"],
    "kornia": ["kornia", "torch"],
    "SciPy, and `jax.scipy`": ["scipy"],
    "dm_pix": ["dm_pix"],
    "Keras, on JAX": ["keras"],
}
SECTIONS = re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
ROWS = [
    (title, *row)
    for title, text in SECTIONS
    for row in re.findall(r"^\| `(.+?)` \| `(.+?)` \|$", text, re.M)
]


def names():
    """The arrays that the page speaks of."""
    rng = np.random.default_rng(8)
    n, c, D, H, W, d, h, w = 2, 3, 4, 6, 8, 2, 5, 7
    noise = rng.uniform(-0.2, 0.2, size=(n, 3, 4)).astype(np.float32)
    image = rng.uniform(size=(n, H, W, c)).astype(np.float32)
    volume = rng.uniform(size=(n, D, H, W, c)).astype(np.float32)
    T = np.eye(3, dtype=np.float32) + noise[:, :, :3]
    T[:, 2, 2] = 1
    T[:, 2, :2] *= 0.2
    P = np.stack([[[1, 0.1, 0.3], [-0.1, 0.9, 0.2], [0.01, 0, 1]]] * n).astype("f")
    a = rng.uniform(-1, 1, size=(n, 6, 2)).astype(np.float32)
    corners = np.array([[[0, 0], [W - 1, 0], [W - 1, H - 1], [0, H - 1]]] * n, "f")
    return {
        **{"n": n, "c": c, "D": D, "H": H, "W": W, "d": d, "h": h, "w": w},
        **{"image": image, "volume": volume, "plane": image[0, ..., 0]},
        "grid": rng.uniform(-1.3, 1.3, size=(n, h, w, 2)).astype(np.float32),
        "grid3": rng.uniform(-1.3, 1.3, size=(n, d, h, w, 3)).astype(np.float32),
        "theta": np.eye(2, 3, dtype=np.float32) + noise[:, :2, :3],
        "theta3": np.eye(3, 4, dtype=np.float32) + noise,
        **{"T": T, "P": P, "M": P[:, :2]},
        **{"R": P[0, :2, :2], "t": P[0, :2, 2]},
        "xs": rng.uniform(0, W - 1, size=(h, w)).astype(np.float32),
        "ys": rng.uniform(0, H - 1, size=(h, w)).astype(np.float32),
        **{"a": a, "b": a + 0.1 * rng.uniform(-1, 1, size=a.shape).astype(np.float32)},
        "corners": corners,
        "targets": corners + rng.uniform(0, 1, size=corners.shape).astype(np.float32),
    }


def theirs(call, packages, values):
    modules = {name: importlib.import_module(name) for name in packages}
    scope = {**values, **modules, "np": np, "jax": jax}
    scope |= {"control_lattice": stn_jax.control_lattice}
    if "scipy" in modules:
        scope["ndimage"] = importlib.import_module("scipy.ndimage")
        scope["RBFInterpolator"] = modules["scipy"].interpolate.RBFInterpolator
    if "dm_pix" in modules:
        scope["pix"] = modules["dm_pix"]
    if "torch" in modules:
        torch = modules["torch"]
        scope["F"] = torch.nn.functional
        scope |= {
            name: torch.tensor(value)
            for name, value in values.items()
            if isinstance(value, np.ndarray)
        }
        scope["x"], scope["v"] = (
            torch.tensor(np.moveaxis(values[name], -1, 1))
            for name in ("image", "volume")
        )
        if "kornia" in modules:
            scope["K"] = modules["kornia"].geometry.transform
            scope["xs"], scope["ys"] = (scope[k].expand(2, 5, 7) for k in ("xs", "ys"))
        out = eval(call, scope).numpy()
        is_image = out.ndim > 3 and out.shape[1] == 3
        return np.moveaxis(out, 1, -1) if is_image else out
    return np.asarray(eval(call, scope))


@pytest.mark.parametrize(("title", "call", "ours"), ROWS, ids=lambda text: text[:40])
def test_the_rows(title, call, ours, monkeypatch):
    monkeypatch.setitem(os.environ, "KERAS_BACKEND", "jax")
    packages = PACKAGES[title]
    for package in packages:
        pytest.importorskip(package)
    values = names()
    scope = {**vars(stn_jax), **vars(transforms), **values, "jnp": jnp}
    scope["points"] = jnp.stack([values["xs"], values["ys"]], -1)
    result = np.asarray(eval(ours, scope))
    np.testing.assert_allclose(result, theirs(call, packages, values), atol=2e-5)


def test_every_row_of_the_page_is_run():
    lines = [line for line in PAGE.splitlines() if line.startswith("| `")]
    assert len(ROWS) == len(lines) > 20
    assert {title for title, *_ in ROWS} == set(PACKAGES)

"""Figures and animations of the transformers."""

import dataclasses

import numpy as np
import pytest
from matplotlib.text import Text
from trainings import CNN, SETUP, ST_CNN, begun, few

from stn_jax.drawing import outline
from train import plots
from train.data import load
from train.loop import fit
from train.specs import ModelSpec
from train.storage import artifacts
from train.trained import Snapshots


@pytest.fixture(scope="module")
def digits():
    return few(load("digits"), 60)


@pytest.mark.slow
def test_snapshots_are_stored_and_animated(digits, tmp_path):
    folder = begun(tmp_path)
    two = ModelSpec("fcn", "affine", 2)
    for spec, task in ((two, "addition"), (ST_CNN, "3d30")):
        setup = dataclasses.replace(SETUP, task=task, steps=3, parameters=300_000)
        (run,) = fit(setup, spec, digits)
        assert run.snapshots.params.shape[:2] == (3, spec.transformers)
        artifacts.write_arrays(folder, "looks.npz", run.snapshots._asdict())
        snapshots = artifacts.read_snapshots(tmp_path / "looks.npz")
        for a, b in zip(snapshots, run.snapshots, strict=True):
            np.testing.assert_array_equal(a, b)
        figure = plots.transformer_figure({spec: snapshots})
        artifacts.write_figure(folder, "look.png", figure)
        plots.animate(spec, snapshots, tmp_path / "look.gif")
        assert (tmp_path / "look.gif").read_bytes()[:6] == b"GIF89a"


def test_the_figure_names_the_classes(rng):
    snapshots = Snapshots(
        images=rng.uniform(size=(2, 28, 28, 1)),
        labels=np.array([0, 1]),
        predictions=np.array([0, 2]),
        steps=np.array([1]),
        params=np.zeros((1, 0, 2, 0)),
        size=(28, 28),
        chosen=0,
        classes=("cat", "dog", "hippopotamus"),
    )
    figure = plots.transformer_figure({CNN: snapshots})
    assert [axes.get_title() for axes in figure.axes] == ["cat", "dog"]
    words = [text.get_text() for text in figure.findobj(Text)]
    assert {"CNN: cat", "CNN: hippopota…"} <= {*words}


@pytest.mark.slow
def test_the_outline_of_the_identity(digits):
    """The identity's outline runs through the outermost pixels' centers."""
    (run,) = fit(dataclasses.replace(SETUP, steps=1), ST_CNN, digits)
    snapshots = run.snapshots._replace(
        params=np.tile([1.0, 0, 0, 0, 1, 0], (1, 1, 10, 1))
    )
    grids, warped = plots.grids_and_warped(
        ST_CNN, snapshots.images, snapshots.params[0, 0], snapshots.size
    )
    upper, rest = outline(grids[0], (28, 28))
    np.testing.assert_allclose(upper[[0, -1]], [[0, 0], [27, 0]], atol=1e-4)
    np.testing.assert_allclose(rest[0], [27, 0], atol=1e-4)
    np.testing.assert_allclose(rest[-1], [0, 0], atol=1e-4)
    np.testing.assert_allclose(warped, snapshots.images, atol=1e-5)

"""The benchmarks measure what they say, and their page says what was measured."""

import json
import re
from itertools import groupby

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references
from conftest import ROOT

from benchmarks import bounds, on_jax, report, sampling, training
from benchmarks.__main__ import Options, main
from benchmarks.cases import CASES, WHATS, Case
from benchmarks.timing import in_turn

SMALL = [
    Case(2, (5, 6), 3, (4, 3)),
    pytest.param(Case(3, (7, 6), 1, (4, 5), shared=True), marks=pytest.mark.slow),
    pytest.param(Case(2, (3, 4, 5), 2, (2, 3, 4)), marks=pytest.mark.slow),
]


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_all_samplers_read_the_same(case):
    """Ours in one call, ours mapped, and map_coordinates, against plain loops."""
    image = np.broadcast_to(case.image(), (case.batch, *case.size, case.channels))
    grid = np.asarray(on_jax.grids(case), float)
    expected = [
        references.bilinear_sample(*pair) for pair in zip(image, grid, strict=True)
    ]
    for make in (
        on_jax.ours,
        on_jax.ours_vmapped,
        on_jax.lifted(on_jax.map_coordinates),
    ):
        for what in WHATS:
            out = on_jax.program(make(case), case, what)()
            out = out if what == "forward" else out[0]
            np.testing.assert_allclose(out, expected, atol=1e-5)


def test_calls_are_made_in_turn():
    calls = []
    times = in_turn(
        {name: lambda name=name: calls.append(name) for name in "ab"},
        rounds=4,
        seconds=9,
    )
    assert [name for name, _ in groupby(calls)] == ["a", "b"] * 6
    assert all(len(taken) == 4 for taken in times.values())


def test_the_table_and_the_page(tmp_path, capsys):
    main(
        Options(
            peers=("map_coordinates",),
            only="^256x28x28x1 forward$|affine_grid 256",
            rounds=2,
            memory="default",  # the process goes on to other tests
            out=tmp_path / "bench.json",
            markdown=tmp_path / "bench.md",
        )
    )
    document = json.loads((tmp_path / "bench.json").read_text())
    row, grid = document["rows"]
    assert row["case"] == "256x28x28x1"
    assert len(row["seconds"]["stn_jax"]) == 2
    seconds = {name: np.array(times) for name, times in row["seconds"].items()}
    ratio = np.median(seconds["stn_jax"] / seconds["map_coordinates"])
    np.testing.assert_allclose(row["ratios"]["map_coordinates"][1], ratio, rtol=0.01)
    assert grid["ratios"] == {}
    page = (tmp_path / "bench.md").read_text()
    assert re.search(r"\| 256x28x28x1 \| forward \|.*\d\.\d\d \(\d", page)
    assert "256x28x28x1" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"bench.json", "bench.md"}


def test_a_peer_that_is_not_there():
    with pytest.raises(SystemExit, match=r"must be of PyTorch, .* got 'OpenCV'"):
        main(Options(peers=("OpenCV",)))


def test_the_plan_holds_what_the_page_shows():
    """The committed page is made of the committed measurements, of all rows."""
    stored = ROOT / "docs" / "results" / "benchmarks-cpu.json"
    document = json.loads(stored.read_text())
    assert (ROOT / "docs" / "benchmarks.md").read_text() == report.page(document)
    assert "\n".join(report.summary(document)) in (ROOT / "README.md").read_text()
    plan = [*sampling.plan(), *training.plan()]
    assert len(document["rows"]) == len(plan)
    names = {f"{row['case']} {row['what']}" for row in document["rows"]}
    for row in sampling.plan():
        assert str(row) in names or f"{row} forward" in names
    assert {str(case) for case in CASES} <= {row["case"] for row in document["rows"]}


def test_the_products_of_a_program():
    """Each is there once, those of loops, branches and derivatives too."""

    def f(a, b):
        c = jax.lax.fori_loop(0, 7, lambda _, b: a @ b, b)
        d = jax.lax.cond(a[0, 0] > 0, lambda a: a @ a, lambda a: a, a)
        return (jax.jit(jnp.dot)(d, c) + c).sum()

    a, b = jnp.ones((3, 3)), jnp.ones((3, 5))
    jaxpr = jax.make_jaxpr(f)(a, b).jaxpr
    shapes = [x.shape for x in bounds.products_of(jaxpr)()]
    assert sorted(shapes) == [(3, 3), (3, 5), (3, 5)]
    back = jax.make_jaxpr(jax.grad(lambda a: (a @ b).sum()))(a).jaxpr
    assert (3, 3) in [x.shape for x in bounds.products_of(back)()]

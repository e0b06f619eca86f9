"""The benchmarks: what they time, what they store, and the pages made from it."""

import ast
import importlib.util
import json
import re
import subprocess
import sys
import time
from itertools import groupby

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references
from conftest import ROOT

from benchmarks import (
    bounds,
    budget,
    collectives,
    gpu,
    malloc,
    on_jax,
    packed,
    pages,
    parts,
    ratios,
    report,
    rows,
    sampling,
    training,
)
from benchmarks.__main__ import Options, main
from benchmarks.cases import CASES, WHATS, Case
from benchmarks.timing import in_turn

SMALL = [
    Case(2, (5, 6), 3, (4, 3)),
    pytest.param(Case(3, (7, 6), 1, (4, 5), shared=True), marks=pytest.mark.slow),
    pytest.param(Case(2, (3, 4, 5), 2, (2, 3, 4)), marks=pytest.mark.slow),
]


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_all_samplers_agree(case):
    """Our sampler, under jax.vmap too, and map_coordinates against plain loops."""
    image = np.broadcast_to(case.image(), (case.batch, *case.size, case.channels))
    grid = np.asarray(on_jax.grids(case), float)
    expected = [
        references.bilinear_sample(*pair) for pair in zip(image, grid, strict=True)
    ]
    for make in (
        on_jax.ours,
        on_jax.ours_vmapped,
        on_jax.batched(on_jax.map_coordinates),
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


def test_several_calls_are_timed_together():
    """The time of one of the calls that a thunk makes."""
    times = in_turn({"": lambda: time.sleep(0.02)}, rounds=3, seconds=9, calls=20)
    assert 0.001 <= times[""].min() < 0.02


def test_a_program_is_called_as_often_as_asked():
    count = []

    def f(x):
        jax.debug.callback(lambda: count.append(1))
        return x

    on_jax.Program(f, jnp.ones(3), calls=5)()
    jax.effects_barrier()
    assert len(count) == 5


def test_rows_are_summarized_round_by_round():
    """Quartiles of the ratios, not ratios of the quartiles; no round is kept."""
    measured = {
        "case": "1x2x3x1",
        "compile_seconds": 0.5,
        "seconds": {
            "stn_jax": np.array([1.0, 2.0, 4.0]),
            "plain JAX": np.array([2.0, 2.0, 16.0]),
            "PyTorch": np.array([4.0, 1.0, 8.0]),
        },
    }
    row = report.summarize(measured)
    assert row["rounds"] == 3
    assert row["seconds"] == {
        "stn_jax": [1.5, 2, 3],
        "plain JAX": [2, 2, 9],
        "PyTorch": [2.5, 4, 6],
    }
    assert row["ratios"] == {
        "stn_jax": {"plain JAX": [0.375, 0.5, 0.75], "PyTorch": [0.375, 0.5, 1.25]},
        "plain JAX": {"PyTorch": [1.25, 2, 2]},
    }
    assert json.loads(report.to_json(row)) == row
    assert '"PyTorch": [2.5, 4.0, 6.0]\n' in report.to_json(row)


def test_groups_of_programs_are_timed_and_written(tmp_path, monkeypatch, capsys):
    """A program of 20 ms beside one of 2 ms; only the first one has labels."""
    monkeypatch.setitem(malloc.SETTINGS, "kept", {})  # other tests follow
    programs = {"slow": lambda: time.sleep(0.02), "Fast": lambda: time.sleep(0.002)}
    group = ratios.Group(programs, {"slow": {"case": "1x2x3x1"}})
    options = ratios.Options(rounds=3, out=tmp_path / "ratios.json")
    ratios.run("benchmarks.some", [group], options, of="Fast", seconds=9)
    document = json.loads(options.out.read_text())
    (row,) = document["rows"]
    assert [*row] == ["case", "milliseconds", "of_fast"]
    assert row["milliseconds"] >= 20
    low, median, high = row["of_fast"]
    assert 2 < low <= median <= high
    assert document["command"].startswith("python -m benchmarks.some")
    assert "copy_bytes_per_second" not in document  # it was not measured
    assert str(row) in capsys.readouterr().out


@pytest.mark.parametrize(
    "name",
    [
        *("benchmarks-cpu", "benchmarks-all-cpu", "benchmarks-fresh-cpu"),
        *("benchmarks-gpu", "steps-gpu"),
    ],
)
def test_the_committed_results_hold_quartiles_alone(name):
    text = (ROOT / "docs" / "results" / f"{name}.json").read_text()
    document = json.loads(text)
    assert text == report.to_json(document)
    for row in document["rows"]:
        of_ratios = [of for ratios in row["ratios"].values() for of in ratios.values()]
        for low, median, high in [*row["seconds"].values(), *of_ratios]:
            assert 0 < low <= median <= high


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
    assert row["rounds"] == 2
    assert {"stn_jax", "map_coordinates"} <= row["seconds"].keys()
    assert "map_coordinates" in row["ratios"]["stn_jax"]
    assert grid["ratios"] == {"stn_jax": {}}
    page = (tmp_path / "bench.md").read_text()
    assert re.search(r"\| 256x28x28x1 \| forward \|.*\d\.\d\d \(\d", page)
    assert "256x28x28x1" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"bench.json", "bench.md"}


def test_which_windows_hold_which_parts():
    """Windows of 32 pixels, by their centers and the parts' centers."""
    windows = np.array([[[-16.0, 0]], [[16.0, 0]]])  # left and right, of one image
    centers = np.array([[[-30.0, 15], [5.0, -20]]])  # head and body
    expected = [[[True, False]], [[False, False]]]  # the body is too far up
    np.testing.assert_array_equal(parts.holds(windows, centers), expected)


def test_a_peer_that_is_not_there():
    with pytest.raises(SystemExit, match=r"must be one of PyTorch, .* got 'OpenCV'"):
        main(Options(peers=("OpenCV",)))


def test_the_plan_holds_what_the_page_shows():
    """The committed pages are made from the committed measurements of all rows."""
    results = ROOT / "docs" / "results"
    everyone = json.loads((results / "benchmarks-all-cpu.json").read_text())
    assert (ROOT / "docs" / "benchmarks-all.md").read_text() == pages.page(everyone)
    on_gpu = json.loads((results / "benchmarks-gpu.json").read_text())
    assert (ROOT / "docs" / "benchmarks-gpu.md").read_text() == pages.page(on_gpu)
    in_speed = "\n".join(pages.summary(on_gpu))
    assert in_speed in (ROOT / "docs" / "speed.md").read_text()
    document = json.loads((results / "benchmarks-cpu.json").read_text())
    assert (ROOT / "docs" / "benchmarks.md").read_text() == pages.page(document)
    in_speed = "\n".join(pages.summary(document))
    assert in_speed in (ROOT / "docs" / "speed.md").read_text()
    plan = [*sampling.plan(), *training.plan()]
    assert len(document["rows"]) == len(plan)
    names = {f"{row['case']} {row['what']}" for row in document["rows"]}
    for row in sampling.plan():
        assert str(row) in names or f"{row} forward" in names
    assert {str(case) for case in CASES} <= {row["case"] for row in document["rows"]}


def test_the_matrix_products_of_a_program():
    """Each is found once, also in loops, branches and derivatives."""

    def f(a, b):
        c = jax.lax.fori_loop(0, 7, lambda _, b: a @ b, b)
        d = jax.lax.cond(a[0, 0] > 0, lambda a: a @ a, lambda a: a, a)
        return (jax.jit(jnp.dot)(d, c) + c).sum()

    a, b = jnp.ones((3, 3)), jnp.ones((3, 5))
    jaxpr = jax.make_jaxpr(f)(a, b).jaxpr
    shapes = [x.shape for x in bounds.matrix_products(jaxpr)()]
    assert sorted(shapes) == [(3, 3), (3, 5), (3, 5)]
    back = jax.make_jaxpr(jax.grad(lambda a: (a @ b).sum()))(a).jaxpr
    assert (3, 3) in [x.shape for x in bounds.matrix_products(back)()]


def test_the_exchanges_of_a_program():
    """Of lines as XLA prints them: one array, a tuple, and one that exchanges none."""
    text = """
  %all-gather.1 = u8[8,28]{1,0} all-gather(u8[1,28]{1,0} %x), dimensions={0}
  %r = (f32[10]{0}, f32[2,5]{1,0}, pred[]) all-reduce(f32[10]{0} %a, f32[2,5] %b)
  ROOT %all-reduce.2 = bf16[3]{0} all-reduce-start(bf16[3]{0} %c), to_apply=%add
  %all-reduce-fusion = f32[7]{0} fusion(f32[7]{0} %all-reduce.2), kind=kLoop
"""
    found = collectives.exchanges(text)
    assert found == {
        "all-gather": {"operations": 1, "bytes": 8 * 28},
        "all-reduce": {"operations": 2, "bytes": 4 * 20 + 1 + 2 * 3},
    }


def test_a_share_of_two_devices_exchanges_the_gradients():
    """Four bytes for each parameter, and four metrics."""
    row = collectives.row("rts", "cnn", 2, 16)
    of_gradients = row["exchanges"]["all-reduce"]["bytes"]
    assert of_gradients == 4 * row["parameters"] + 12


def test_the_packed_gather_samples_the_same(rng):
    """Inside the image, at its border, and outside; with both gradients."""
    image = rng.normal(size=(5, 6, 3)).astype(np.float32)
    grid = rng.uniform(-1.8, 1.8, size=(9, 8, 2)).astype(np.float32)
    bar = rng.normal(size=(9, 8, 3)).astype(np.float32)
    out, pull = jax.vjp(packed.packed_sample, image, grid)
    exact = image.astype(float), grid.astype(float)
    np.testing.assert_allclose(out, references.bilinear_sample(*exact), atol=1e-5)
    gradients = references.bilinear_gradients(*exact, bar.astype(float))
    for ours, theirs in zip(pull(jnp.asarray(bar)), gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


# on a GPU


def run_python(*arguments):
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1500,
    )


def test_the_benchmarks_on_a_gpu_run_on_a_cpu_with_tiny_images(tmp_path):
    """The whole way to the JSON and the page, with the peers that are installed."""
    out, page = tmp_path / "gpu.json", tmp_path / "gpu.md"
    has_torch = importlib.util.find_spec("torch") is not None
    options = [] if has_torch else ["--no-pytorch"]
    options += ["--out", out, "--page", page, "--minutes", 20]
    done = run_python("-m", "benchmarks.gpu", "--tiny", *options)
    assert done.returncode == 0, done.stderr
    assert f"6 rows, 0 left out: {out}" in done.stdout
    document = json.loads(out.read_text())
    assert document["left_out"] == {}
    assert document["command"].startswith("python -m benchmarks.gpu --tiny")
    ratios_of = {row["what"]: row["ratios"] for row in document["rows"][:-1]}
    assert [*ratios_of] == ["forward", "grid", "both", "parameters", "training"]
    for what, ratios_ in ratios_of.items():
        peers = ["PyTorch"] * has_torch + ["dense"] * (what in WHATS)
        assert [*ratios_["stn_jax"]] == peers
        is_sum = what in ("both", "parameters", "training")
        assert ("deterministic" in ratios_) == is_sum
    text = page.read_text()
    assert text == pages.page(document)
    assert re.search(r"\| 2x8x7x3 \| both \|.*\d \([\d.]+-[\d.]+\) \| \d+% \|", text)
    assert '- "deterministic": ' in text


def test_what_was_measured_is_written_when_the_time_is_up(tmp_path):
    """A row without end, after one that is measured and one that fails."""
    code = f"""
import time
from pathlib import Path
from benchmarks import budget, report

def quick():
    labels = {{"case": "1x2x3x1", "what": "both", "channels": 1, "least_bytes": 8}}
    costs = {{"temporary_bytes": 0, "compile_seconds": 0.5}}
    return {{**labels, **costs, "seconds": {{"stn_jax": [1.0, 2.0]}}}}

def fixed():
    return {{**quick(), "seconds": {{"stn_jax": [1.0], "deterministic": [450.0]}}}}

def broken():
    raise ValueError("too large\\nin detail")

document = {{**report.document([], "make", 1e9), "memory": "default"}}
record = budget.Record(document, Path({str(tmp_path / "a.json")!r}),
                       Path({str(tmp_path / "a.md")!r}))
plan = dict(quick=quick, broken=broken, fixed=fixed, endless=lambda: time.sleep(99))
with budget.stop_at(time.monotonic() + 2, record):
    budget.measure_all({{**plan, "later": quick}}, record)
"""
    done = run_python("-c", code)
    assert done.returncode == 0, done.stderr
    assert "The time is up. 1 rows, 3 left out" in done.stdout
    document = json.loads((tmp_path / "a.json").read_text())
    (row,) = document["rows"]
    assert row["ratios"]["deterministic"] == {"stn_jax": [450, 450, 450]}
    assert row["seconds"]["stn_jax"] == [1.25, 1.5, 1.75]  # not those of "fixed"
    assert document["left_out"] == {
        "broken": "ValueError: too large",
        "endless": budget.NO_TIME,
        "later": budget.NO_TIME,
    }
    page = (tmp_path / "a.md").read_text()
    assert "450 (450-450)" in page
    assert f"- {budget.NO_TIME}: endless, later." in page


def test_a_slow_deterministic_program_runs_once():
    """One of 60 ms for 2 steps, beside one that is fast."""
    count = []

    def slow(x):
        count.append(1)
        time.sleep(0.06)
        return np.asarray(x)

    class Row:
        labels = {"case": "some", "what": "both", "channels": 1, "least_bytes": 8}  # noqa: RUF012
        steps = 2

        def program(self, options=None):
            def function(x):
                return x if options is None else jax.pure_callback(slow, x, x)

            return on_jax.Program(function, jnp.ones(3), calls=20)

    measured = rows.measure_deterministic(Row(), rounds=3, seconds=0)
    assert len(count) == 2  # the first loads the program
    (taken,) = measured["seconds"]["deterministic"]
    assert 0.03 <= taken < 0.1
    assert len(measured["seconds"]["stn_jax"]) == 3


def test_a_program_has_flags_of_its_own():
    """This jax knows the flag for determinism, and refuses what it does not know."""
    program = on_jax.Program(jnp.sin, jnp.ones(3), options=on_jax.DETERMINISTIC)
    np.testing.assert_allclose(program(), np.sin(np.ones(3)), rtol=1e-6)
    with pytest.raises(Exception, match="No such compile option"):
        on_jax.Program(jnp.sin, jnp.ones(3), options={"xla_gpu_no_such_flag": True})


def test_missing_packages_are_named_with_a_command():
    code = """
import sys
sys.modules.update(tyro=None, PIL=None)
from benchmarks.gpu import main
main(["--tiny", "--no-pytorch"])
"""
    done = run_python("-c", code)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"needs tyro, PIL, which {sys.executable}" in line
    assert f"-m pip install tyro pillow jax=={jax.__version__}" in line


def test_the_packages_that_are_checked_are_those_that_are_imported():
    code = """
import sys
import benchmarks.budget, benchmarks.gpu_rows
for name, module in [*sys.modules.items()]:
    if name.split(".")[0] in ("benchmarks", "stn_jax", "train") and module.__file__:
        print(module.__file__)
"""
    imported = set()
    for path in run_python("-c", code).stdout.split():
        with open(path) as file:
            for node in ast.parse(file.read()).body:  # not those within functions
                if isinstance(node, ast.Import):
                    imported |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    imported.add(node.module.split(".")[0])
    own = {"benchmarks", "stn_jax", "train", *sys.stdlib_module_names}
    assert imported - own == {*gpu.NEEDS}

"""What is written for people is executed: README, notebook, commands."""

import itertools
import re
import statistics
import subprocess
import sys
import tomllib
import types
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path

import jupytext
import nbclient
import nbformat
import numpy as np
import pytest
from conftest import ROOT

from train import tables
from train.experiments import CONFIGS
from train.paper import ERRORS
from train.storage import artifacts

README = (ROOT / "README.md").read_text()
NOTEBOOKS = sorted((ROOT / "colab").glob("*.ipynb"))


def blocks(language, text=README):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
SNIPPETS = [code for page in PAGES for code in blocks("python", page.read_text())]


@pytest.mark.parametrize("code", SNIPPETS, ids=range(len(SNIPPETS)))
def test_the_code_in_readme_and_docs_runs(code):
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, cwd=ROOT)


def test_the_first_snippet_is_short():
    assert len(blocks("python")[0].splitlines()) <= 15


def test_the_readmes_commands_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    commands = "\n".join(blocks("bash"))
    assert set(re.findall(r"^make ([a-z]+)", commands, re.M)) <= targets
    names = re.findall(r"-m train run ([\w-]+)", README)
    assert names
    assert set(names) <= set(CONFIGS)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    assert set(re.findall(r"\.\[(\w+)\]", README)) <= set(extras)


def test_the_results_are_the_committed_ones():
    path = ROOT / "docs" / "results" / "experiments-cpu.json"
    text = tables.task_tables(artifacts.read_json(path))
    assert text in (ROOT / "docs" / "experiments" / "distorted.md").read_text()
    for model in ("model", "CNN", "ST-CNN affine"):
        (row,) = re.findall(rf"^\| {model} \|.*$", text, re.M)
        assert row in README


AUTHORS = {"china.jpg": "danielbuechele", "flower.jpg": "vultilion"}
PATTERNS = "docs/*.md docs/how-to/*.md docs/gallery/*.py docs/pictures/*.py colab/*.*"
SHOWN = [
    path
    for pattern in PATTERNS.split()
    for path in sorted(ROOT.glob(pattern))
    if "load_sample_image(" in path.read_text()
]


@pytest.mark.parametrize("path", SHOWN, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_the_authors_of_photographs_are_named(path):
    text = path.read_text()
    for name in re.findall(r"load_sample_image\(\W*(\w+\.jpg)", text):
        assert f"flickr.com/photos/{AUTHORS[name]}" in text


def test_the_readme_is_a_page():
    assert len(README.splitlines()) <= 100


def test_those_of_house_numbers_are():
    documents = artifacts.read_json(ROOT / "docs" / "results" / "numbers-cpu.json")
    page = (ROOT / "docs" / "real-images.md").read_text()
    assert tables.task_tables(documents) in page
    models = [d["models"][0] for d in documents]
    errors = [f"{m['validation_error']:.2f}" for m in models if m["model"] == "cnn"]
    assert f"with {', '.join(errors[:-1])} and {errors[-1]}%" in page


def test_those_of_large_house_numbers_are():
    results = ROOT / "docs" / "results"
    documents = artifacts.read_json(results / "numbers128-cpu.json")
    page = (ROOT / "docs" / "real-images.md").read_text()
    assert tables.task_tables(documents) in page
    first, second, third = (
        f"{d['models'][0]['validation_error']:.2f}"
        for d in documents
        if d["models"][0]["model"] == "cnn"
    )
    assert f"are {first}, {second} and {third}%, in the range" in page
    small = artifacts.read_json(results / "numbers-cpu.json")

    def leads(of_size, model):
        """By how much a model's error is below the CNN's, for each seed."""
        errors = {
            (d["models"][0]["model"], d["config"]["seed"]): d["models"][0]["test_error"]
            for d in of_size
        }
        return [errors["cnn", seed] - errors[model, seed] for seed in range(3)]

    page = " ".join(page.split())
    large, single = (leads(documents, f"{m}st_cnn-affine") for m in ("multi_", ""))
    assert "CNN** by {:.1f}, {:.1f} and {:.1f}".format(*large) in page
    words = "64 x 64 pixels, by {:.1f}, {:.1f} and {:.1f}"
    assert words.format(*leads(small, "multi_st_cnn-affine")) in page
    words = "{1:.1f} and {2:.1f} percentage points, and worse under seed 0, by {0:.1f}"
    assert words.format(-single[0], *single[1:]) in page
    assert all(a > b for a, b in zip(large, single, strict=True))


def test_those_of_parts_are():
    results = ROOT / "docs" / "results"
    documents = artifacts.read_json(results / "parts-cpu.json")
    page = (ROOT / "docs" / "real-images.md").read_text()
    assert tables.task_tables(documents) in page
    models = [d["models"][0] for d in documents]
    first, second, third = (
        f"{m['validation_error']:.2f}" for m in models if m["model"] == "cnn"
    )
    assert f"are in the range above: {first}, {second} and {third}%" in page
    words = " ".join(page.split())

    def errors(name):
        return np.array([m["test_error"] for m in models if m["model"] == name])

    cnn, two, four = map(errors, ("cnn", "2xst_cnn-attention", "4xst_cnn-attention"))
    for label, of in (("CNN", cnn), ("2xST-CNN", two), ("4xST-CNN", four)):
        assert "{:.2f}, {:.2f} and {:.2f}% ({})".format(*of, label) in words
    said = "{:.1f}, {:.1f} and {:.1f}"
    assert f"two windows is {said.format(*cnn - two)}" in words
    assert f"minus that of four {said.format(*cnn - four)}" in words
    for row in artifacts.read_json(results / "windows-parts-cpu.json")["rows"]:
        model = row["model"].replace("st_cnn-attention", "ST-CNN")
        numbers = row["seed"], row["window"] + 1
        shares = f"{row['head']:.2f}", f"{row['body']:.2f}"
        assert f"| {' | '.join(map(str, (model, *numbers, *shares)))} |" in page


@pytest.mark.parametrize("name", ["longer-cpu", "paper-gpu"])
def test_those_of_longer_runs_are(name):
    path = ROOT / "docs" / "results" / f"{name}.json"
    text = tables.task_tables(artifacts.read_json(path))
    assert text in (ROOT / "docs" / "experiments" / "longer.md").read_text()


def test_the_faults_are():
    path = ROOT / "docs" / "results" / "faults-cpu.json"
    counts = artifacts.read_json(path)["counts"]
    page = (ROOT / "docs" / "runs.md").read_text()
    rows = re.findall(r"^\|.*\| ([\d,]+) \| ([\d,]+) \| 0 \|$", page, re.M)
    names = ["SIGKILL", "SIGTERM", "SIGINT", "full disks", "damages of states"]
    expected = [(counts[f"{n} tried"], counts[f"{n} survived"]) for n in names]
    weights = "damages of weights and cards"
    expected.append((counts[f"{weights} tried"], counts[f"{weights} refused"]))
    assert rows == [(f"{a:,}", f"{b:,}") for a, b in expected]
    assert counts["runs ended with OTHER results"] == 0


def test_the_costs_of_windows_are():
    path = ROOT / "docs" / "results" / "windows-cpu.json"
    of_one = {
        (row["part"], row["what"], row["windows"]): row["of_one"][1]
        for row in artifacts.read_json(path)["rows"]
    }
    page = (ROOT / "docs" / "speed.md").read_text()
    for part, label in (
        ("sampling", "the sampling alone"),
        ("transformer", "the transformer with its localization network"),
    ):
        costs = [of_one[part, w, n] for w in ("forward", "both") for n in (2, 4)]
        assert f"| {label} | {' | '.join(f'{x:.2f}' for x in costs)} |" in page


def test_the_effects_of_precision_and_parts_are():
    path = ROOT / "docs" / "results" / "precision-cpu.json"
    page = (ROOT / "docs" / "scaling.md").read_text()
    results = artifacts.read_json(path)
    assert len(results) == 9
    for index, option in enumerate(
        ("none", "`--accumulate 4`", "`--precision bfloat16`")
    ):
        models = [r["models"][0] for r in results[3 * index : 3 * index + 3]]
        errors = [model["test_error"] for model in models]
        speed = statistics.median([model["images_per_second"] for model in models])
        spread = f"{statistics.mean(errors):.2f} ± {statistics.stdev(errors):.2f}"
        assert f"| {option} | {spread} | {speed:,.0f} |" in page


def test_what_devices_send_is():
    """The bytes do not depend on the number of devices; gradients not on the batch."""
    path = ROOT / "docs" / "results" / "collectives-cpu.json"
    rows = artifacts.read_json(path)["rows"]
    page = (ROOT / "docs" / "scaling.md").read_text()
    labels = {"cnn": "CNN", "st_cnn-affine": "ST-CNN affine"}
    for row in rows:
        if row["devices"] == 1:
            assert not row["exchanges"]
            continue
        gradients = row["exchanges"]["all-reduce"]["bytes"]
        assert 0 < gradients - 4 * row["parameters"] <= 16  # and four metrics
        digits = row["exchanges"].get("all-gather", {"bytes": 0})["bytes"]
        assert digits == (0 if row["task"] == "rts" else 4 * 28**2 * row["batch_size"])
        batch = "256, 512" if row["task"] == "rts" else row["batch_size"]
        label = f"{row['task'].upper()}, {labels[row['model']]}"
        sent = f"{gradients / 1e6:.2f} MB | {f'{digits / 1e6:.2f} MB' if digits else 0}"
        line = f"| {label} | {row['parameters']:,} | 2, 4, 8 | {batch} | {sent} |"
        assert line in page


def test_the_times_of_warps_are():
    rows = artifacts.read_json(ROOT / "docs" / "results" / "warps-cpu.json")["rows"]
    ratios = {(row["case"], row["what"]): row["of_pytorch"][1] for row in rows}
    page = (ROOT / "docs" / "speed.md").read_text()
    lines = []
    for case in dict.fromkeys(case for case, _ in ratios):
        cells = [f"{ratios[case, what]:.2f}" for what in ("forward", "grid", "both")]
        lines.append(f"| {case} | {' | '.join(cells)} |")
    assert "\n".join(lines) in page
    in_readme = re.findall(r"^\| \d+x\d+.*$", README, re.M)
    assert len(in_readme) == 4
    assert set(in_readme) <= set(lines)


def test_the_costs_of_transformers_before_convolutions_are():
    path = ROOT / "docs" / "results" / "multi-cpu.json"
    document = artifacts.read_json(path)
    names = ("network", "side", "model")
    rows = {tuple(row[name] for name in names): row for row in document["rows"]}
    page = (ROOT / "docs" / "real-images.md").read_text()
    labels = {"svhn": "of appendix A.5", "svhn_lean": "lean"}
    for network, side in itertools.product(labels, (64, 128)):
        cells = [f"{rows[network, side, 'cnn']['milliseconds']:.0f}"]
        for model in ("st_cnn-affine", "multi_st_cnn-affine"):
            low, median, high = rows[network, side, model]["of_cnn"]
            cells.append(f"{median:.2f} ({low:.2f}-{high:.2f})")
        row = f"| {labels[network]} | {side} x {side} | {' | '.join(cells)} |"
        assert row in page
    assert document["kernel"]


def test_the_least_errors_are_of_the_committed_results():
    seeds = defaultdict(list)
    for name in ("experiments", "longer", "addition"):
        path = ROOT / "docs" / "results" / f"{name}-cpu.json"
        for document in artifacts.read_json(path):
            config, (model,) = document["config"], document["models"]
            settings = {k: v for k, v in config.items() if k not in ("models", "seed")}
            key = (config["task"], model["model"], repr(settings))
            seeds[key].append(model["test_error"])

    def cell(task, kind):
        ours = [
            statistics.mean(errors)
            for (of, model, _), errors in seeds.items()
            if of == task and model.partition("-")[0] == kind
        ]
        papers = [
            error
            for (of, model), error in ERRORS.items()
            if of == task and model.partition("-")[0] == kind
        ]
        return f"{min(ours):.2f} / {min(papers)}" if papers else ""

    page = (ROOT / "docs" / "experiments" / "distorted.md").read_text()
    kinds = ("fcn", "cnn", "st_fcn", "st_cnn", "2xst_fcn")
    labels = ("FCN", "CNN", "ST-FCN", "ST-CNN", "2xST-FCN")
    for kind, label in zip(kinds, labels, strict=True):
        tasks = ("r", "rts", "p", "e", "tc", "addition")
        row = " | ".join([label, *(cell(task, kind) for task in tasks)])
        assert f"| {row} |" in page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_exist(page):
    text = page.read_text()
    for path, anchor in re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", text):
        target = page.parent / path if path else page
        assert target.exists(), path
        if anchor:
            assert anchor in anchors(target.read_text())


def anchors(text):
    """The names by which GitHub links to the headings of a page."""
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_and_its_text_are_one(path):
    text = jupytext.read(path.with_suffix(".py"))
    notebook = jupytext.read(path)
    cells = [[(c.cell_type, c.source) for c in book.cells] for book in (text, notebook)]
    assert cells[0] == cells[1]
    assert not any(cell.get("outputs") for cell in notebook.cells)


def first_code(path):
    cells = nbformat.read(path, as_version=4).cells
    return next(cell.source for cell in cells if cell.cell_type == "code")


def test_the_notebooks_install_in_the_same_way():
    first, *others = map(first_code, NOTEBOOKS)
    assert others == [first]


@pytest.fixture
def colab(monkeypatch):
    """Colab as the first cell sees it: the commands it calls, and the status of git."""
    commands, status = [], {"git": 0}

    def run(command, check=False):
        commands.append(command)
        return subprocess.CompletedProcess(command, status.get(command[0], 0))

    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("colab"))
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return commands, status


def test_the_first_cell_runs_twice_and_leaves_colabs_jax_alone(colab, monkeypatch):
    commands, _ = colab
    exec(first_code(NOTEBOOKS[0]), {})
    monkeypatch.setattr(Path, "exists", lambda path: True)  # cloned
    exec(first_code(NOTEBOOKS[0]), {})
    assert [command[0] for command in commands] == ["git", *[sys.executable] * 2]
    assert commands[1] == commands[2]
    assert "--constraint" in commands[1]
    assert not {"-U", "--upgrade"} & set(commands[1])
    pins = Path(commands[1][commands[1].index("--constraint") + 1]).read_text()
    assert f"jax=={version('jax')}\n" in pins


def test_the_first_cell_says_that_nothing_can_be_cloned(colab):
    commands, status = colab
    status["git"] = 128
    with pytest.raises(RuntimeError, match=r"stn_jax cannot be cloned.* upload"):
        exec(first_code(NOTEBOOKS[0]), {})
    assert [command[0] for command in commands] == ["git"]


PICTURES = {"spatial_transformer": 3, "own_images": 2}


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, monkeypatch, tmp_path):
    monkeypatch.setenv("STN_JAX_FAST", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": tmp_path}},
    )
    client.execute()
    pictures = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == PICTURES[path.stem]

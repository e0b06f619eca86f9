"""What is written for people is executed: README, notebook, commands."""

import re
import statistics
import subprocess
import sys
import tomllib
from collections import defaultdict

import jupytext
import nbclient
import nbformat
import pytest
from conftest import ROOT

from train import tables
from train.experiments import CONFIGS
from train.paper import ERRORS
from train.storage import artifacts

README = (ROOT / "README.md").read_text()
NOTEBOOK = ROOT / "colab" / "spatial_transformer.ipynb"


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
    assert text in README
    assert text in (ROOT / "docs" / "experiments.md").read_text()


def test_those_of_house_numbers_are():
    documents = artifacts.read_json(ROOT / "docs" / "results" / "numbers-cpu.json")
    page = (ROOT / "docs" / "real-images.md").read_text()
    assert tables.task_tables(documents) in page
    models = [d["models"][0] for d in documents]
    errors = [f"{m['validation_error']:.2f}" for m in models if m["model"] == "cnn"]
    assert f"with {', '.join(errors[:-1])} and {errors[-1]}%" in page


def test_those_of_parts_are():
    results = ROOT / "docs" / "results"
    documents = artifacts.read_json(results / "parts-cpu.json")
    page = (ROOT / "docs" / "real-images.md").read_text()
    assert tables.task_tables(documents) in page
    errors = {d["models"][0]["model"]: d["models"][0] for d in documents}
    assert f"validation error is {errors['cnn']['validation_error']:.2f}%" in page
    for row in artifacts.read_json(results / "windows-parts-cpu.json")["rows"]:
        model = row["model"].replace("st_cnn-attention", "ST-CNN")
        cells = model, row["window"] + 1, f"{row['head']:.2f}", f"{row['body']:.2f}"
        assert f"| {' | '.join(map(str, cells))} |" in page


@pytest.mark.parametrize("name", ["longer-cpu", "paper-gpu"])
def test_those_of_longer_runs_are(name):
    path = ROOT / "docs" / "results" / f"{name}.json"
    text = tables.task_tables(artifacts.read_json(path))
    assert text in (ROOT / "docs" / "experiments.md").read_text()


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


def test_the_times_of_warps_are():
    rows = artifacts.read_json(ROOT / "docs" / "results" / "warps-cpu.json")["rows"]
    ratios = {(row["case"], row["what"]): row["of_pytorch"][1] for row in rows}
    page = (ROOT / "docs" / "speed.md").read_text()
    for case in {case for case, _ in ratios}:
        cells = [f"{ratios[case, what]:.2f}" for what in ("forward", "grid", "both")]
        assert f"| {case} | {' | '.join(cells)} |" in page


def test_the_costs_of_transformers_before_convolutions_are():
    path = ROOT / "docs" / "results" / "multi-cpu.json"
    rows = {
        (row["network"], row["model"]): row for row in artifacts.read_json(path)["rows"]
    }
    page = (ROOT / "docs" / "real-images.md").read_text()
    for network, label in (("svhn", "of appendix A.5"), ("svhn_lean", "lean")):
        cells = [f"{rows[network, 'cnn']['milliseconds']:.0f}"]
        for model in ("st_cnn-affine", "multi_st_cnn-affine"):
            low, median, high = rows[network, model]["of_cnn"]
            cells.append(f"{median:.2f} ({low:.2f}-{high:.2f})")
        assert f"| {label} | {' | '.join(cells)} |" in page


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

    kinds = ("fcn", "cnn", "st_fcn", "st_cnn", "2xst_fcn")
    labels = ("FCN", "CNN", "ST-FCN", "ST-CNN", "2xST-FCN")
    for kind, label in zip(kinds, labels, strict=True):
        tasks = ("r", "rts", "p", "e", "tc", "addition")
        row = " | ".join([label, *(cell(task, kind) for task in tasks)])
        assert f"| {row} |" in README


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


def test_the_notebook_and_its_text_are_one():
    text = jupytext.read(NOTEBOOK.with_suffix(".py"))
    notebook = jupytext.read(NOTEBOOK)
    cells = [[(c.cell_type, c.source) for c in book.cells] for book in (text, notebook)]
    assert cells[0] == cells[1]
    assert not any(cell.get("outputs") for cell in notebook.cells)


def test_the_notebook_leaves_colabs_jax_alone():
    source = NOTEBOOK.with_suffix(".py").read_text()
    assert "--constraint" in source
    assert not re.search(r"pip install.*(-U|--upgrade)", source)


@pytest.mark.slow
def test_the_notebook_runs(monkeypatch):
    monkeypatch.setenv("STN_JAX_FAST", "1")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": ROOT}},
    )
    client.execute()
    pictures = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == 3

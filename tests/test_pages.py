"""The pages and the gallery's scripts run without the site, on any version of jax."""

import os
import subprocess
import sys

import jupytext
import pytest
from conftest import ROOT

DOCS = ROOT / "docs"
SCRIPTS = sorted((DOCS / "gallery").glob("*.py"))
PAGES = [
    path
    for path in (*sorted(DOCS.glob("*.md")), *sorted((DOCS / "how-to").glob("*.md")))
    if "```{code-cell}" in path.read_text()
]


@pytest.mark.slow
@pytest.mark.parametrize("path", [*PAGES, *SCRIPTS], ids=lambda path: path.stem)
def test_its_code_runs(path, tmp_path):
    is_page = path.suffix == ".md"
    book = jupytext.read(path, fmt="md:myst" if is_page else "py:percent")
    cells = [cell.source for cell in book.cells if cell.cell_type == "code"]
    assert cells
    environment = {**os.environ, "MPLBACKEND": "agg", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", "\n\n".join(cells)]
    subprocess.run(command, check=True, cwd=tmp_path, env=environment)

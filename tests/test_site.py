"""The build of the documentation refuses a site with faults, and names each place."""

import re
import shutil
import subprocess
import sys

import nbformat
import pytest
from conftest import ROOT

pytest.importorskip("sphinx", reason="needs the extra docs")
pytest.importorskip("myst_nb", reason="needs the extra docs")

# a file of the site, its text, and what the build says with the file and line
FAULTS = {
    "index.md": (
        "# A site\n\n[dead](nowhere.md)\n\n[deader](fails.md#nowhere)\n\n{MORE}\n",
        [(3, "nowhere.md"), (5, "nowhere")],
    ),
    "fails.md": (
        "---\nfile_format: mystnb\nkernelspec:\n  name: python3\n---\n\n# It fails\n\n"
        "```{code-cell} python\nx = 1\nassert x == 2, 'no'\n```\n",
        [(11, "the code fails: AssertionError: no")],
    ),
    "undrawn.md": (
        "---\nfile_format: mystnb\nkernelspec:\n  name: python3\n---\n\n# No figure\n\n"
        "```{code-cell} python\n---\nmystnb:\n  image:\n    alt: none\n---\n"
        "x = 1\n```\n",
        [(9, "the figure was not drawn")],
    ),
    "equation.md": (
        "# No equation\n\n$$\\nonsense{1}$$\n",
        [(3, "no equation")],
    ),
    "gallery/fails.py": (
        '"""\nIt fails\n========\n\nIt fails.\n"""\n\nx = 1\nassert x == 2\n',
        [],
    ),
    "gallery/undrawn.py": (
        '"""\nNothing\n=======\n\nIt draws nothing.\n"""\n\nx = 1\n',
        [(8, "the figure was not drawn"), (8, "ends in an assertion")],
    ),
    "reference.md": (
        "# Reference\n\n```{eval-rst}\n.. currentmodule:: stn_jax\n.. autosummary::\n"
        "   :toctree: api\n\n   affine_grid\n   no_such_grid\n```\n",
        [(None, "no_such_grid")],
    ),
}
# a script of the gallery without faults, which draws at its end
DRAWS = """\"\"\"
It draws
========

It is introduced.
\"\"\"

first = 1

# %%
# Then it draws.

import matplotlib.pyplot as plt

plt.plot([first, 2])

# %%
# At last it checks.

assert first == 1
"""
TREE = "```{toctree}\nfails\nundrawn\nequation\nreference\nexamples/index\n```"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The exit status and messages of a build with these faults, and its folder."""
    site = tmp_path_factory.mktemp("site")
    shutil.copy(ROOT / "docs" / "conf.py", site)
    for folder in ("_ext", "_templates", "_static"):
        shutil.copytree(ROOT / "docs" / folder, site / folder)
    (site.parent / "colab").mkdir()  # where docs/_ext/notebooks.py finds the notebooks
    first = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x = 1")])
    nbformat.write(first, site.parent / "colab" / "spatial_transformer.ipynb")
    (site / "gallery").mkdir()
    header = "gallery/GALLERY_HEADER.rst"
    shutil.copy(ROOT / "docs" / header, site / header)
    for name, (text, _) in FAULTS.items():
        (site / name).write_text(text.replace("{MORE}", TREE))
    (site / "gallery" / "draws.py").write_text(DRAWS)
    command = [sys.executable, "-m", "sphinx", "-W", "-q", site, site / "html"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stderr, site / "html"


def test_the_build_fails(built):
    status, *_ = built
    assert status != 0


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_with_its_line(built, name):
    _, messages, _ = built
    for line, what in FAULTS[name][1]:
        at = re.escape(f"/{name}:{line}" if line else "")
        pattern = rf"{at}.*WARNING: .*{re.escape(what)}"
        assert re.search(pattern, messages), f"{name}:{line}: {what}\n\n{messages}"


def test_a_script_of_the_gallery_that_fails_is_named_with_its_line(built):
    _, messages, _ = built
    assert re.search(r'gallery/fails\.py", line 9', messages), messages


def test_a_public_name_without_a_page_is_named_with_its_definition(built):
    _, messages, _ = built
    found = re.search(r"/(\w+)\.py:(\d+): WARNING: stn_jax\.warp has no page", messages)
    assert found
    assert found[1] == "warping"
    source = (ROOT / "stn_jax" / "warping.py").read_text().splitlines()
    assert source[int(found[2]) - 1] == "def warp("
    assert "stn_jax.affine_grid has no page" not in messages


def test_the_picture_of_a_script_stands_above_its_code(built):
    *_, html = built
    page = (html / "examples" / "draws.html").read_text()
    parts = re.findall(r"It is introduced|sphx_glr_draws_001.png\"|<pre>|Then it", page)
    assert parts == [
        "It is introduced",
        'sphx_glr_draws_001.png"',
        "<pre>",
        "Then it",
        "<pre>",
        "<pre>",
    ]

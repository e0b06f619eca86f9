"""Pages with code as notebooks, which open in Colab.

The site has a notebook for each script of gallery/, and for each page whose cells are
executed: notebooks/FOLDER-NAME.ipynb, without outputs. Its first cell is that of the
notebooks in colab/, which installs stn_jax in Colab. A link below the title of a page
opens its notebook in Colab, from the branch gh-pages, to which a workflow pushes the
site.

The notebooks in colab/ are pages themselves, with their outputs.
"""

import re
import shutil
from pathlib import Path

import jupytext
import nbformat
from docutils import nodes

COLAB = Path(__file__).parents[2] / "colab"
BRANCH = "https://colab.research.google.com/github/stn-jax/stn_jax/blob/gh-pages"
FOLDER = "notebooks"  # of the site, and in docs/ of the pages made from colab/


def setup(app):
    app.connect("config-inited", copy_notebooks)
    app.connect("doctree-resolved", link_colab)
    app.connect("build-finished", write_notebooks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def copy_notebooks(app, config):
    folder = Path(app.srcdir, FOLDER)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for path in COLAB.glob("*.ipynb"):
        shutil.copy(path, folder)


def link_colab(app, doctree, page):
    if source_of(app, page) is None:
        return
    title = next(doctree.findall(nodes.title))
    target = f"{BRANCH}/{FOLDER}/{notebook_of(page)}"
    link = nodes.reference("", "Open in Colab", refuri=target)
    line = nodes.paragraph("", "", link, classes=["colab"])
    title.parent.insert(title.parent.index(title) + 1, line)


def notebook_of(page):
    """Its name, with the folder: how-to/ and examples/ both have a page on lenses."""
    return f"{page.replace('/', '-')}.ipynb"


def source_of(app, page):
    """The file with the code of a page, or None: the script or the page of text."""
    if page == "index":
        return None
    folder, name = Path(page).parent.name, Path(page).name
    if folder == "examples":
        script = Path(app.srcdir, "gallery", f"{name}.py")
        return script if script.exists() else None
    path = Path(app.env.doc2path(page))
    has_cells = path.suffix == ".md" and "```{code-cell}" in path.read_text()
    return path if has_cells else None


def write_notebooks(app, exception):
    if exception or app.builder.format != "html":
        return
    folder = Path(app.outdir, FOLDER)
    folder.mkdir(exist_ok=True)
    first = next(c for c in first_notebook().cells if c.cell_type == "code")
    for page in app.env.found_docs:
        source = source_of(app, page)
        if source is None:
            continue
        if source.suffix == ".py":  # sphinx-gallery has written it
            path = Path(app.srcdir, "examples", f"{source.stem}.ipynb")
            notebook = nbformat.read(path, as_version=4)
        else:
            text = readable(source.read_text(), page, app.config.html_baseurl)
            notebook = jupytext.reads(text, fmt="md:myst")
        install = nbformat.v4.new_code_cell(first.source)
        notebook.cells.insert(0, install)
        notebook = nbformat.v4.upgrade(notebook)
        nbformat.write(notebook, folder / notebook_of(page))


def first_notebook():
    return nbformat.read(COLAB / "spatial_transformer.ipynb", as_version=4)


def readable(text, page, site):
    """The text of a page, with links to the site instead of roles and files."""
    folder = f"{site}{Path(page).parent}/".replace("/./", "/")

    def role(match):
        return f"[{match[1]}]({folder}{match[2]}.html)"

    text = re.sub(r"\{doc\}`([^<`]+) <([^>`]+)>`", role, text)
    return re.sub(
        r"\]\((?!\w+:)([\w./-]+)\.md(#[\w-]+)?\)",
        lambda match: f"]({folder}{match[1]}.html{match[2] or ''})",
        text,
    )

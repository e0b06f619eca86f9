"""What Sphinx does not check by itself. Each fault is a warning with its file and line,
and ``make docs`` makes errors of warnings.

- Code of a page that fails, and a figure of a page that is not drawn.
- A script of the gallery that draws nothing, or does not end in an assertion.
- A public name without a page, or without a docstring.
- A link within the site that leads nowhere.
"""

import ast
import importlib
import inspect
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from docutils import nodes
from sphinx.util import logging

WARN = logging.getLogger(__name__).warning

# the packages and modules whose names are public
PUBLIC = (
    "stn_jax",
    "stn_jax.transforms",
    "stn_jax.matrices",
    "stn_jax.nnx",
    "stn_jax.linen",
    "stn_jax.pooling",
    "stn_jax.drawing",
    "stn_jax.cpu",
)


def setup(app):
    app.connect("doctree-read", check_cells)
    app.connect("doctree-read", check_picture)
    app.connect("env-check-consistency", check_names)
    app.connect("env-check-consistency", check_gallery)
    app.connect("build-finished", check_links)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


# pages


def check_cells(app, doctree):
    """No cell of a page may fail; one with a figure or an image must draw it."""
    path = app.env.doc2path(app.env.docname)
    for cell in doctree.findall(nodes.container):
        if cell.get("nb_element") != "cell_code":
            continue
        for output in cell.findall(nodes.literal_block):
            if "traceback" in output["classes"]:
                *_, error = output.astext().strip().splitlines()
                WARN("the code fails: %s", error, location=line_of(path, cell, output))
        options = cell["cell_metadata"].get("mystnb", {})
        if options.keys() & {"figure", "image"} and not any(cell.findall(nodes.image)):
            WARN(
                "the figure was not drawn", location=f"{path}:{first_line(path, cell)}"
            )


def first_line(path, cell):
    """The line where a cell begins; Sphinx counts from its options."""
    lines = Path(path).read_text().splitlines()[: cell.line]
    fences = [i for i, line in enumerate(lines, start=1) if "{code-cell}" in line]
    return fences[-1] if fences else cell.line


def line_of(path, cell, traceback):
    """The file and line of an error: a traceback counts lines within its cell."""
    first = first_line(path, cell)
    found = re.search(r"Cell In\[\d+\], line (\d+)", traceback.astext())
    source = next(cell.findall(nodes.literal_block)).astext().splitlines()
    if found and int(found[1]) <= len(source):
        failing = source[int(found[1]) - 1]
        lines = Path(path).read_text().splitlines()
        for number, line in enumerate(lines[first:], start=first + 1):
            if line == failing:
                return f"{path}:{number}"
    return f"{path}:{first}"


def check_picture(app, doctree):
    """The page of an object with a script in pictures/ must show what that draws."""
    script = Path(app.srcdir, "pictures", f"{Path(app.env.docname).name}.py")
    if script.exists() and not any(doctree.findall(nodes.image)):
        WARN("the figure was not drawn", location=f"{script}:1")


def check_gallery(app, env):
    """A script must draw a figure and end in an assertion."""
    for script in sorted(Path(app.srcdir, "gallery").glob("*.py")):
        page = Path(app.srcdir, "examples", f"{script.stem}.rst").read_text()
        last = ast.parse(script.read_text()).body[-1]
        where = f"{script}:{last.lineno}"
        if f"sphx_glr_{script.stem}_001.png" not in page:
            WARN("the figure was not drawn", location=where)
        if not isinstance(last, ast.Assert):
            WARN("a script of the gallery ends in an assertion", location=where)


# names


def check_names(app, env):
    """Every public name must have a page and a docstring."""
    described = env.domains.python_domain.objects
    pages = {name for name, at in described.items() if at.docname == f"api/{name}"}
    documented = {id(resolved(name)) for name in pages}
    for module in map(importlib.import_module, PUBLIC):
        for name, value in public(module):
            where = f"{inspect.getsourcefile(value)}:{inspect.findsource(value)[1] + 1}"
            name = f"{module.__name__}.{name}"
            if id(value) not in documented:
                WARN("%s has no page in docs/reference/", name, location=where)
            if not value.__doc__:
                WARN("%s has no docstring", name, location=where)


def public(module):
    """The public functions and classes of a module, by their names."""
    for name in getattr(module, "__all__", vars(module)):
        value = getattr(module, name)
        is_object = inspect.isfunction(value) or inspect.isclass(value)
        if not is_object or name.startswith("_"):
            continue
        if value.__module__.startswith(module.__name__):  # not imported from elsewhere
            yield name, value


def resolved(name):
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


# links


class Page(HTMLParser):
    """The targets and the links of a page of HTML."""

    def __init__(self, path):
        super().__init__()
        self.targets, self.links = {""}, []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        self.targets |= {named.get("id"), named.get("name")}
        self.links += [named[key] for key in ("href", "src") if named.get(key)]


def check_links(app, exception):
    """All links within the site must lead to a file of the site, and to a target."""
    if exception or app.builder.format != "html":
        return
    root = Path(app.outdir)
    pages = {path: Page(path) for path in root.rglob("*.html")}
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            to = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not to.exists():
                WARN("no such file: %s", link, location=source_of(app, path))
            elif to in pages and unquote(parts.fragment) not in pages[to].targets:
                WARN("no such target: %s", link, location=source_of(app, path))


def source_of(app, page):
    name = str(page.relative_to(app.outdir).with_suffix(""))
    source = app.env.doc2path(name) if name in app.env.found_docs else page
    return f"{source}:1"

"""Public names in the text of a page, such as `warp`, become links to their pages."""

import importlib
import re

from checks import PUBLIC, public
from docutils import nodes
from sphinx.addnodes import pending_xref

LINKS = nodes.reference | pending_xref


def setup(app):
    app.connect("doctree-read", link_names)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def pages():
    """The full name for each way to write a public name: `warp`, `nnx.Sampler`, ..."""
    found = {}
    for module in map(importlib.import_module, PUBLIC):
        for name, _ in public(module):
            full = f"{module.__name__}.{name}"
            for short in (full, full.removeprefix("stn_jax."), name):
                found.setdefault(short, full)  # of NNX and Linen, NNX's
    for name in ("from_pixel", "to_pixel", "convert"):  # also in stn_jax.matrices
        found[f"matrices.{name}"] = found[f"stn_jax.matrices.{name}"] = found[name]
    return found


PAGES = pages()


def link_names(app, doctree):
    if app.env.doc2path(app.env.docname, base=False).suffix != ".md":
        return  # docstrings have their own references
    for code in list(doctree.findall(nodes.literal)):
        name = re.sub(r"\(.*\)$", "", code.astext())
        if name not in PAGES or isinstance(code.parent, LINKS | nodes.title):
            continue
        link = pending_xref(
            refdomain="py", reftype="obj", reftarget=PAGES[name], refwarn=True
        )
        code.replace_self(link)
        link += code

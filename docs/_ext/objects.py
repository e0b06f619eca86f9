"""Pages of objects: their pictures, and signatures as a reader would write them."""

import re
from pathlib import Path

# what Sphinx and Flax's Linen add to a signature
ADDED = (
    (r"TypeAliasForwardRef\('([\w.]+)'\)", r"\1"),
    (r"~?stn_jax\.sampling\.sampler\.(SamplerOptions)", r"\1"),
    (r", (\*, )?parent: .*? = .*?, name: str \| None = None(?=\))", ""),
)


def setup(app):
    app.connect("autodoc-process-signature", shortened)
    # after napoleon, which would take the directive for text
    app.connect("autodoc-process-docstring", with_picture, priority=600)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def shortened(app, kind, name, value, options, signature, returned):
    def short(text):
        for pattern, instead in ADDED:
            text = re.sub(pattern, instead, text)
        return text

    return signature and short(signature), returned and short(returned)


def with_picture(app, kind, name, value, options, lines):
    """After the docstring of an object, what its script in pictures/ draws."""
    page = app.env.current_document.docname
    if page == f"api/{name}" and Path(app.srcdir, "pictures", f"{name}.py").exists():
        lines += ["", f".. plot:: {name}.py", f"   :alt: {name}, drawn by this code"]

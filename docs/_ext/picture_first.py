"""A page of the gallery shows its picture above the code that draws it."""

from docutils import nodes
from sphinx_gallery.directives import imgsgnode


def setup(app):
    app.connect("doctree-read", move_picture)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def move_picture(app, doctree):
    """Move the first picture to the end of the introduction."""
    if not app.env.docname.startswith("examples/"):
        return
    picture = next(doctree.findall(imgsgnode), None)
    code = next(doctree.findall(nodes.literal_block), None)
    if picture is None or code is None:
        return
    picture.parent.remove(picture)
    code.parent.insert(code.parent.index(code), picture)

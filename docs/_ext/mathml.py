"""Equations as MathML, which browsers draw by themselves: no script, no download."""

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

LOGGER = logging.getLogger(__name__)


def setup(app):
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def inline(translator, node):
    translator.body.append(converted(node, as_block=False))
    raise nodes.SkipNode


def block(translator, node):
    number = f'<span class="eqno">({node["number"]})</span>' if node["number"] else ""
    equation = converted(node, as_block=True)
    translator.body.append(f'<div class="math-block">{number}{equation}</div>\n')
    raise nodes.SkipNode


def converted(node, as_block):
    try:
        return tex2mathml(node.astext(), as_block=as_block)
    except MathError as error:
        LOGGER.warning(
            "no equation: %s: %s", error, node.astext(), location=node, type="mathml"
        )
        return ""

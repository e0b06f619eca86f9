"""Signatures as a reader would write them, without what Sphinx and Flax add."""

import re

ADDED = (
    (r"TypeAliasForwardRef\('([\w.]+)'\)", r"\1"),
    (r"~?stn_jax\.sampling\.sampler\.(SamplerOptions)", r"\1"),
    (r", (\*, )?parent: .*? = .*?, name: str \| None = None(?=\))", ""),  # Linen's
)


def setup(app):
    app.connect("autodoc-process-signature", shortened)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def shortened(app, kind, name, value, options, signature, returned):
    def short(text):
        for pattern, instead in ADDED:
            text = re.sub(pattern, instead, text)
        return text

    return signature and short(signature), returned and short(returned)

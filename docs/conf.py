"""Sphinx's configuration; ``make docs`` builds the site into build/docs."""

import os
import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS / "_ext"))
# also for the pages that are executed
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["MATPLOTLIBRC"] = str(DOCS / "matplotlibrc")
os.environ.pop("MPLBACKEND", None)  # a page's kernel draws into the page

import stn_jax  # noqa: E402

project = "stn_jax"
author = "The stn_jax authors"
copyright = f"{author}, Apache-2.0"
version = release = stn_jax.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "matplotlib.sphinxext.plot_directive",
    # docs/_ext
    "checks",
    "mathml",
    "names",
    "notebooks",
    "objects",
    "picture_first",
]
source_suffix = {
    ".rst": "restructuredtext",
    ".md": "myst-nb",
    ".ipynb": "myst-nb",  # of colab/, copied by the extension notebooks
}
templates_path = ["_templates"]
# sphinx-gallery writes the pages of gallery/ to examples/
exclude_patterns = ["_*", "gallery", "pictures", "examples/*.ipynb", "results"]

# pages of text: every {code-cell} is executed, by the extension myst_nb
nb_execution_mode = "force"
nb_execution_timeout = 600  # seconds for a cell; a notebook of colab/ trains
nb_execution_show_tb = True
nb_output_stderr = "warn"
nb_merge_streams = True
myst_enable_extensions = ["attrs_block", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4

# references: what a docstring or a signature mentions is a link, or the build fails
nitpicky = True
LINKED = ("Image", "Grid", "Theta", "Params", "Size")  # reference/types.md
nitpick_ignore_regex = [
    ("py:.*", r"(jax|flax|numpy|collections|typing)\..*"),
    ("py:class", r"ArrayLike|DTypeLike|stn_jax\.transforms\.base\.MatrixFamily"),
    # of Matplotlib
    ("py:class", "Axes|AxesImage|Line2D|LineCollection|Quiver"),
]

# pages of public objects, from their docstrings; templates in _templates/autosummary
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_type_aliases = {name: name for name in (*LINKED, "ArrayLike")}
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
add_module_names = False
python_maximum_signature_line_length = 72
toc_object_entries = False

# pictures of these pages, drawn by the scripts in pictures/
plot_basedir = "pictures"
plot_formats = [("png", 160)]
plot_html_show_formats = False
plot_html_show_source_link = False
plot_include_source = True

# the gallery
sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "examples",
    "filename_pattern": r"\.py$",
    "backreferences_dir": "examples/backreferences",
    "doc_module": ("stn_jax",),
    "reference_url": {"stn_jax": None},
    "remove_config_comments": True,
    "run_stale_examples": True,
    "only_warn_on_example_error": False,
    "abort_on_example_error": False,
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
    "min_reported_time": 600,
    "capture_repr": (),
    "matplotlib_animations": (True, "jshtml"),
    "parallel": True,  # as many as sphinx -j
    "copyfile_regex": r"(?!)",
    "image_srcset": ["2x"],
    "thumbnail_size": (480, 480),
    "within_subsection_order": "order.FirstThese",
}

html_baseurl = "https://stn-jax.github.io/stn_jax/"
html_theme = "furo"
html_title = "stn_jax"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_show_sphinx = False
html_copy_source = False
html_domain_indices = False
html_math_renderer = "mathml"
pygments_style = "friendly"
pygments_dark_style = "github-dark"
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": "#0b5ea8",
        "color-brand-content": "#0b5ea8",
        "font-stack--monospace": "ui-monospace, SFMono-Regular, Menlo, Consolas, "
        "'DejaVu Sans Mono', 'Liberation Mono', monospace",
    },
    "dark_css_variables": {
        "color-brand-primary": "#7cc0ff",
        "color-brand-content": "#7cc0ff",
    },
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

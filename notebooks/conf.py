"""Settings of the book: `sphinx-build -W --keep-going -b html notebooks OUT` makes it, without executing a notebook."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import mrgp

project, author, copyright = "mrgp", "mrgp developers", "2026, mrgp developers"
version = release = mrgp.__version__

extensions = [
    "myst_nb",  # Markdown, and notebooks with the results that they were committed with
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",  # Args, Raises, Attributes
    "sphinx.ext.mathjax",
    "sphinx_design",
    "book_extension",
]
exclude_patterns = ["v1v2/runs", "v1v2/fits", "README.md"]
nitpicky = False  # docstrings speak of what is private too, in plain type

nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
napoleon_google_docstring, napoleon_numpy_docstring = True, False
napoleon_use_ivar = True  # attributes are listed, and not described twice
python_maximum_signature_line_length = 88
add_module_names = False

mathjax_path = "mathjax/tex-chtml-full.js"  # copied from a package by the extension: equations need no network
mathjax4_config = {}

html_theme = "sphinx_book_theme"
html_title = "mrgp"
html_static_path = ["book.css"]
html_css_files = ["book.css"]
html_copy_source = False
html_show_sourcelink = False
html_sidebars = {"**": ["navbar-logo.html", "sbt-sidebar-nav.html"]}  # a field to search in is above
html_theme_options = {
    "use_download_button": False,
    "use_fullscreen_button": False,
    "show_toc_level": 2,
    "home_page_in_toc": False,
}

"""Sphinx settings; ``make docs`` builds the pages into ``docs/_build``."""

from importlib.metadata import version as installed_version

project = "otx_xai"
author = "The otx_xai founders"
version = release = installed_version("otx-xai")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
default_role = "literal"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = f"otx_xai {version}"
html_show_copyright = False

"""The settings of the documentation site: `make docs` builds it into build/docs."""

import builtins
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]
os.environ["COLUMNS"] = "100"
builtins.GENERATING_DOCUMENTATION = True  # type: ignore[attr-defined]  # jaxtyping: short names of shapes

import worldmodel  # noqa: E402  (jaxtyping reads the flag when it is imported)

project = "worldmodel"
author = "The worldmodel authors"
copyright = "The worldmodel authors, MIT license"
version = release = worldmodel.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "_ext.docstrings", "_ext.generated", "_ext.notebooks"]
exclude_patterns = ["README.md", "_ext", "_static"]  # README.md: the list of pages on GitHub
html_theme = "furo"
html_title = f"worldmodel {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False

myst_heading_anchors = 3
myst_enable_extensions = ["deflist"]
default_role = "code"  # docstrings mark code with single backticks
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
add_module_names = False
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {"top_of_page_buttons": []}
smartquotes_action = "D"  # dashes alone: quotes are those of a shell or of Python

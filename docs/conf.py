"""Settings of the documentation site (Sphinx): ``bash tools/docs.sh`` builds it in build/docs."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_ext")]

import rxmdnn  # noqa: E402

project = "rxmdnn"
author = "The rxmdnn developers"
copyright = "the rxmdnn developers"
release = version = rxmdnn.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton", "sphinx_design",
              "generated"]
exclude_patterns = ["_ext", "_static"]

myst_enable_extensions = ["colon_fence", "deflist", "attrs_inline"]
myst_heading_anchors = 3
smartquotes = False  # quotes are those of decks
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings state types and units
napoleon_google_docstring = False
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"rxmdnn {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
copybutton_prompt_text = "$ "

"""Sphinx's settings for the documentation site: `make docs`."""

from __future__ import annotations

import herdmaster

project = "Herdmaster"
copyright = "the Herdmaster authors"  # noqa: A001 - Sphinx names it so
release = version = herdmaster.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme = "furo"
html_title = f"Herdmaster {version}"
exclude_patterns = ["build"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
# A block that a test runs as a file says so in its info string; `file=` is no option of a code block's.
suppress_warnings = ["misc.highlighting_failure"]

# Docstrings write code in single backticks.
default_role = "code"
autodoc_default_options = {"members": True, "undoc-members": False, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
nitpicky = False

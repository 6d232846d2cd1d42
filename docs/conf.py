"""Settings of Sphinx. `tools/pages.py` prepares the pages, says where they come from, and calls Sphinx with this folder."""

import json
import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
# Made by tools/pages.py: the language, addresses, and for each page its source and what stands in its head.
SITE = json.loads(Path(os.environ["COURSE_SITE"]).read_text(encoding="utf-8"))

project = html_title = SITE["title"]
author = copyright = "the authors of Better models. MIT licence"
language = SITE["language"]
locale_dirs = [SITE["locale"]]  # words of the theme that it does not have in this language
html_baseurl = SITE["address"]

extensions = [
    *("myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax", "sphinx_copybutton"),
    *("site_pages", "korean_search"),
]
templates_path = ["_templates"]
html_static_path = ["_static"]
html_css_files = ["course.css"]
html_js_files = [("course.js", {"defer": "defer"})]
html_extra_path = [SITE["extra"]]
html_show_sourcelink = html_copy_source = False
html_favicon = "_static/favicon.svg"
html_use_index = html_domain_indices = False  # the search finds more
html_context = {"default_mode": "auto", "words": SITE["words"]}

# Lessons have been executed already; a page shows what the run left behind.
nb_execution_mode = "off"
nb_merge_streams = True
nb_render_text_lexer = "none"
nb_mime_priority_overrides = [("html", "text/html", 5)]
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "attrs_block"]
# Links are written so that they work on GitHub; `site_pages` turns them to pages.
myst_all_links_external = True
suppress_warnings = ["myst.header"]  # a lesson's exercises may stand a level lower

# MathJax from a package, in parts: without its menu and its speech, a page loads 160 kB instead of 260.
mathjax_path = "mathjax/startup.js"
mathjax3_config = {"loader": {"load": ["core", "input/tex", "output/chtml", "a11y/assistive-mml"]}}

default_role = "literal"  # docstrings write `fit` as Markdown does
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # signatures show them
autodoc_default_options = {"members": True, "undoc-members": False, "show-inheritance": False, "ignore-module-all": True}
napoleon_use_ivar = True
napoleon_google_docstring = True

html_theme = "pydata_sphinx_theme"
html_theme_options = {
    "search_as_you_type": True,
    "header_links_before_dropdown": 7,
    "navbar_align": "left",
    "navbar_end": ["language", "theme-switcher", "navbar-icon-links"],
    "icon_links": [{"name": "Repository", "url": SITE["repository"], "icon": "fa-brands fa-github", "type": "fontawesome"}],
    "secondary_sidebar_items": ["lesson-links", "page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "back_to_top_button": False,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {page: [] for page in SITE["without_list"]}

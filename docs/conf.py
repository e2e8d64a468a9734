"""Sphinx: MyST pages and notebooks, the API from docstrings, warnings as errors in CI (`sphinx-build -W`)."""

import pathlib
import shutil
import sys

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

import varl

project = "varl"
author = "the varl authors"
project_copyright = "the varl authors, Apache-2.0"
version = release = varl.__version__

extensions = [
  "myst_nb",
  "sphinx.ext.autodoc",
  "sphinx.ext.napoleon",
  "sphinx.ext.intersphinx",
  "sphinx.ext.viewcode",
  "sphinx_copybutton",
  "docstrings",
]
plain = tags.has("plain")  # noqa: F821  # of Sphinx: for CI, without pages of sources, in a theme that costs less
if plain:
  extensions.remove("sphinx.ext.viewcode")
exclude_patterns = ["_build", "_ext", "results/algorithms"]  # the last are included by the algorithms' pages
nitpicky = False
suppress_warnings = ["autodoc.mocked_object"]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 4
# Notebooks are executed by the tests, and their outputs are kept beside the sources.
nb_execution_mode = "off"

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_class_signature = "mixed"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = False

# Only for readers with a network: nothing is fetched while building in CI.
intersphinx_mapping: dict[str, tuple[str, None]] = {}

# Notebooks lie beside `docs/`, where readers of the code find them; the site has a copy, and its links lead to that.
shutil.rmtree(HERE / "notebooks", ignore_errors=True)
shutil.copytree(HERE.parent / "notebooks", HERE / "notebooks", ignore=shutil.ignore_patterns("*.py", ".*"))


def setup(app):
  """Turns links to `notebooks/` beside `docs/` into links to the copy within it."""

  def relink(app, docname, source):
    up = "../" * docname.count("/")
    source[0] = source[0].replace(f"]({up}../notebooks/", f"]({up}notebooks/")

  app.connect("source-read", relink)


html_static_path = ["_static"]
html_css_files = ["varl.css"]
html_title = "varl"
html_theme = "basic"
if not plain:
  html_theme = "sphinx_book_theme"
  html_theme_options = {
    "use_download_button": False,
    "use_fullscreen_button": False,
    "show_toc_level": 2,
    "show_navbar_depth": 1,
  }
copybutton_prompt_text = r">>> |\$ "
copybutton_prompt_is_regexp = True

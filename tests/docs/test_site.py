"""The site is read without a warning, and every public symbol is on a page of the API and has a docstring."""

import importlib
import inspect
import pathlib
import pkgutil
import re
import subprocess
import sys

import pytest
from sphinx.util.inventory import InventoryFile

import varl
from varl import agents

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
  """The folder of the built pages."""
  out = tmp_path_factory.mktemp("site")
  command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-j", "2", "-t", "plain", "docs", str(out)]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  return out


def public():
  """Public functions and classes of all modules, by the name of where they are defined."""
  found = {}
  for info in pkgutil.walk_packages(varl.__path__, "varl."):
    if info.name == "varl.__main__":
      continue
    module = importlib.import_module(info.name)
    names = [name for name in vars(module) if not name.startswith("_")]
    for name in names:
      value = getattr(module, name)
      if (inspect.isfunction(value) or inspect.isclass(value)) and value.__module__ == info.name:
        found[f"{info.name}.{name}"] = value
  return found


def test_every_public_symbol_is_documented(site):
  inventory = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="")
  documented = set()
  for name in (name for kind, entries in inventory.data.items() if kind.startswith("py:") for name in entries):
    module, _, attribute = name.rpartition(".")
    try:
      value = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError):
      continue  # a method: its class stands for it
    documented.add(id(value))
  symbols = public()
  assert len(symbols) > 300
  missing = sorted(name for name, value in symbols.items() if id(value) not in documented)
  assert not missing
  assert not sorted(name for name, value in symbols.items() if not inspect.getdoc(value))


PAGES = [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"), ROOT / "notebooks" / "README.md"]


def targets(page):
  """What a page links to and shows, other than addresses of the web."""
  text = page.read_text()
  found = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", text)
  return found + re.findall(r"(?:src|href)=\"(?!https?:|#|mailto:)([^\"#]+)", text)


def test_links_between_pages_and_to_sources_resolve():
  """Sphinx warns of pages that are missing; this looks at the files that pages link to outside the site."""
  assert ROOT / "README.md" in PAGES
  broken = [
    f"{page.relative_to(ROOT)}: {target}"
    for page in PAGES
    for target in targets(page)
    if not (page.parent / target).exists()
  ]
  assert not broken


def test_the_readme_links_every_algorithm():
  linked = set(targets(ROOT / "README.md"))
  assert {f"docs/algorithms/{name}.md" for name in agents.AGENTS} <= linked


def test_metrics_that_guides_name_are_those_of_runs():
  """A column is explained on an algorithm's page or among the loop's own."""
  explained = {"training/cloning_loss"}  # of the term that the guide to composing adds itself
  for page in (ROOT / "docs" / "algorithms").glob("*.md"):
    for cell in re.findall(r"^\| `([\w/]+)` \|", page.read_text(), re.MULTILINE):
      explained |= {cell, f"training/{cell}"}
  named = {
    (page.name, metric) for page in PAGES for metric in re.findall(r"`((?:training|eval)/\w+)`", page.read_text())
  }
  assert ("debugging.md", "training/kl_budget_used") in named
  assert not sorted((page, metric) for page, metric in named if metric not in explained)

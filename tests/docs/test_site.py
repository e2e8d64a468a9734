"""The site builds without a warning, and every public symbol is on a page of the API and has a docstring."""

import importlib
import inspect
import pathlib
import pkgutil
import subprocess
import sys

import pytest
from sphinx.util.inventory import InventoryFile

import varl

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
  """The folder of the built pages."""
  out = tmp_path_factory.mktemp("site")
  command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-j", "2", "docs", str(out)]
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


def test_links_between_pages_and_to_sources_resolve(site):
  """Sphinx warns of pages that are missing; this looks at the files that pages link to outside the site."""
  import re

  broken = []
  for page in (ROOT / "docs").rglob("*.md"):
    for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text()):
      if not (page.parent / target).exists():
        broken.append(f"{page.relative_to(ROOT)}: {target}")
  assert not broken

"""What is installed: everything that the package reads, its version, and types that a checker finds from outside."""

import ast
import importlib.metadata
import pathlib
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile

import pytest
from hatchling import build

import varl

ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture
def at_root(monkeypatch):
  """Build backends work in the project's directory."""
  monkeypatch.chdir(ROOT)


def package_files():
  """Every file of the package but what Python compiles."""
  found = (path for path in (ROOT / "varl").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
  return {str(path.relative_to(ROOT)) for path in found}


def test_a_wheel_and_an_sdist_hold_the_whole_package(at_root, tmp_path):
  expected = package_files()
  assert {"varl/py.typed", "varl/presets/sac.toml", "varl/report/viewer/page.html"} <= expected
  with zipfile.ZipFile(tmp_path / build.build_wheel(str(tmp_path))) as wheel:
    names = set(wheel.namelist())
  assert {name for name in names if name.startswith("varl/")} == expected
  assert any(name.endswith("licenses/varl/report/viewer/three.LICENSE") for name in names)
  with tarfile.open(tmp_path / build.build_sdist(str(tmp_path))) as sdist:
    held = {member.name.partition("/")[2] for member in sdist.getmembers()}
  assert expected | {"pyproject.toml", "README.md", "LICENSE", "tests/test_packaging.py"} <= held


def test_an_editable_install_is_a_path(at_root, tmp_path):
  """Type checkers follow a path; an import hook, as other backends write it, they cannot."""
  with zipfile.ZipFile(tmp_path / build.build_editable(str(tmp_path))) as wheel:
    paths = [wheel.read(name).decode().split() for name in wheel.namelist() if name.endswith(".pth")]
    metadata = next(wheel.read(name).decode() for name in wheel.namelist() if name.endswith("METADATA"))
  assert paths == [[str(ROOT)]]
  assert f"\nVersion: {varl.__version__}\n" in metadata


def test_the_installed_version_is_the_package_s():
  assert importlib.metadata.version("varl") == varl.__version__


def checked_names(module):
  """The names that a module imports for type checkers alone."""
  tree = ast.parse((ROOT / module).read_text())
  blocks = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
  return {alias.asname or alias.name for block in blocks for node in block.body for alias in node.names}


def test_a_type_checker_sees_every_public_name_and_no_other():
  assert checked_names("varl/__init__.py") == set(varl.__all__)
  assert checked_names("varl/envs/__init__.py") <= set(varl.envs.__all__)
  for module in (varl, varl.envs):
    for name in module.__all__:
      assert getattr(module, name) is not None
  for module in (ROOT / "varl").rglob("*.py"):
    # Seen by a checker, it would give every mistyped name the type Any.
    assert not re.search(r"^def __getattr__", module.read_text(), re.MULTILINE), module


@pytest.mark.slow
def test_mypy_checks_a_program_outside_against_the_installed_package(tmp_path):
  program = tmp_path / "program.py"
  program.write_text(
    "import varl\nreveal_type(varl.train)\nreveal_type(varl.Settings(num_envs=8).num_envs)\n"
    "reveal_type(varl.losses.squared_error)\nvarl.Settings(num_envs='8')\nvarl.trian\n"
  )
  command = [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path / "cache"), str(program)]
  done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
  lines = done.stdout.splitlines()
  assert re.search(r":2: note: Revealed type is .*-> .*varl\.run\.training\.Run", lines[0])
  assert re.search(r':3: note: Revealed type is "(builtins\.)?int"', lines[1])
  assert re.search(r":4: note: Revealed type is .*jax", lines[2])
  assert re.search(r':5: error: Argument "num_envs" to "Settings" has incompatible type', lines[3])
  assert re.search(r":6: error: Module has no attribute", lines[4])


def test_the_notebooks_extra_has_what_its_page_calls():
  page = (ROOT / "notebooks" / "README.md").read_text()
  extra = {re.match(r"[\w-]+", line)[0] for line in PROJECT["optional-dependencies"]["notebooks"]}
  commands = [
    line for block in re.findall(r"^```\n(.*?)^```", page, re.DOTALL | re.MULTILINE) for line in block.splitlines()
  ]
  installs, uses = ([c for c in commands if c.startswith("pip ") is chosen] for chosen in (True, False))
  assert installs == ['pip install -e ".[notebooks]"']
  needs = {"jupyter lab": "jupyterlab", "jupytext": "jupytext", "--execute": "nbconvert"}
  assert all(re.match("|".join(needs), use) for command in uses for use in command.split(" && "))
  assert {needs[word] for word in needs if any(word in use for use in uses)} <= extra

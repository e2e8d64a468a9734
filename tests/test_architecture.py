"""The layout is the import order: docs/architecture.md lists the floors, and no import runs up or sideways."""

import ast
import pathlib
import re

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "varl"
DOCUMENT = (ROOT / "docs" / "architecture.md").read_text()
FLOORS = [line.split() for line in re.search(r"```text\n(__main__.*?)```", DOCUMENT, re.DOTALL)[1].splitlines()][::-1]
HEIGHT = {room: height for height, floor in enumerate(FLOORS) for room in floor}


def room_of(path):
  return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(source):
  """The rooms that a module imports, anywhere in it and by any form, as (line, room); "" is the package itself."""
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Import):
      names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f"line {node.lineno}: a relative import"
      names = [f"{node.module}.{alias.name}" for alias in node.names]
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"varl(\.\w+)+", node.value):
      names = [node.value]  # for importlib
    else:
      continue
    for name in names:
      package, _, rest = name.partition(".")
      room = rest.partition(".")[0]
      if package == "varl":
        yield (
          node.lineno,
          room if room in HEIGHT or (PACKAGE / f"{room}.py").exists() or (PACKAGE / room).is_dir() else "",
        )


def runs_up(room, source):
  found = [(line, other) for line, other in imported(source) if other not in ("", room)]
  return [f"line {line}: {room} imports {other}" for line, other in found if HEIGHT[other] >= HEIGHT[room]]


def test_every_room_is_on_a_floor_and_every_floor_has_its_rooms():
  rooms = {room_of(path) for path in PACKAGE.rglob("*.py")} - {"__init__"}
  assert set(HEIGHT) == rooms


def test_imports_run_downward_only():
  wrong = {
    str(path.relative_to(ROOT)): found
    for path in sorted(PACKAGE.rglob("*.py"))
    if room_of(path) != "__init__" and (found := runs_up(room_of(path), path.read_text()))
  }
  assert not wrong


def test_an_import_that_runs_up_or_sideways_is_found_in_every_form():
  for source in (
    "from varl.run import training",
    "import varl.run.training",
    "from varl import run",
    "from varl import posteriors as p",
    "def f():\n  from varl.posteriors.iterative import Inference",
    "importlib.import_module('varl.design')",
  ):
    assert runs_up("priors", source), source
  assert not runs_up(
    "priors", "from varl import __version__, losses\nfrom varl.priors.fixed import uniform\nimport jax"
  )


def test_every_module_of_a_folder_that_is_told_apart_is_named():
  """In the table "Where things are": where a row names some modules of a folder, it names all."""
  told = 0
  for row in re.findall(r"^\| .*`varl/(\w+)/`:.*$", DOCUMENT, re.MULTILINE):
    text = next(line for line in DOCUMENT.splitlines() if f"`varl/{row}/`:" in line)
    modules = {path.stem for path in (PACKAGE / row).glob("[a-z]*.py")}
    missing = {name for name in modules if not re.search(rf"`{name}`", text)}
    if len(missing) < len(modules) / 2:
      told += 1
      assert not missing, (row, missing)
  assert told >= 8

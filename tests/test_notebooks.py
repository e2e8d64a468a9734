"""Every notebook runs from its first cell to its last, in a kernel of the Python that runs the tests."""

import pathlib

import jupytext
import nbclient
import pytest
from ipykernel import kernelspec

NOTEBOOKS = sorted((pathlib.Path(__file__).parents[1] / "notebooks").glob("*.py"))
LONG = ("options_that_stay_alive", "planning", "swap_an_axis")
"""Those that learn for more than a minute on two cores: they run with `-m slow`."""
RUNS = [pytest.param(path, marks=pytest.mark.slow) if path.stem in LONG else path for path in NOTEBOOKS]


@pytest.fixture
def kernel(tmp_path, monkeypatch):
  """The name of a kernel of this Python: a "python3" installed for the user may be that of another."""
  kernelspec.write_kernel_spec(tmp_path / "kernels" / "this-python")
  monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
  for name in ("JUPYTER_CONFIG_DIR", "IPYTHONDIR"):
    monkeypatch.setenv(name, str(tmp_path))
  return "this-python"


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_it_runs(path, kernel):
  notebook = jupytext.read(path)
  where = {"metadata": {"path": str(path.parent)}}
  # Raises with the traceback of the first cell that fails. The limit is for a cell.
  nbclient.NotebookClient(notebook, timeout=300, kernel_name=kernel, resources=where).execute()
  code = [cell for cell in notebook.cells if cell.cell_type == "code"]
  assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
  outputs = [output for cell in code for output in cell.outputs]
  assert not [output for output in outputs if output.output_type == "error"]
  assert any("image/png" in output.get("data", {}) for output in outputs)


def test_a_failing_cell_fails(kernel):
  notebook = jupytext.reads("# %%\nassert False, 'no'\n", fmt="py:percent")
  with pytest.raises(nbclient.exceptions.CellExecutionError, match="no"):
    nbclient.NotebookClient(notebook, timeout=60, kernel_name=kernel).execute()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_one_with_outputs_has_the_same_cells(path):
  kept = jupytext.read(path.with_suffix(".ipynb"))
  assert [(c.cell_type, c.source) for c in kept.cells] == [(c.cell_type, c.source) for c in jupytext.read(path).cells]
  assert all(cell.execution_count for cell in kept.cells if cell.cell_type == "code")
  assert path.with_suffix(".ipynb").stat().st_size < 300_000


def test_every_notebook_is_listed():
  listed = (NOTEBOOKS[0].parent / "README.md").read_text()
  assert len(NOTEBOOKS) >= 7
  assert all(f"[{path.stem}]({path.stem}.ipynb)" in listed for path in NOTEBOOKS)

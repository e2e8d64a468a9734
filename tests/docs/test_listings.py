"""Every Python listing of the site runs as it stands, page by page, the listings of a page in one scope."""

import pathlib
import re

import numpy as np
import pytest

DOCS = pathlib.Path(__file__).parents[2] / "docs"
PAGES = {
  str(path.relative_to(DOCS)): blocks
  for path in sorted(DOCS.rglob("*.md"))
  if (blocks := re.findall(r"^```python\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE))
}


def check_composed(scope):
  assert np.asarray(scope["metrics"]["training/updates"]).sum() == (4_000 - 504) * 0.25
  assert np.isfinite(np.asarray(scope["metrics"]["training/critic_loss"])).all()
  assert {"actor", "critic", "target_critic", "temperature"} == scope["state"].agent.params.keys()


def check_seeds(scope):
  assert scope["returns"].shape == (2, 2)
  assert np.isfinite(scope["returns"]).all()


CHECKS = {"guides/composing.md": check_composed, "guides/seeds.md": check_seeds}
"""What a page says of its listing's result."""


def test_pages_that_are_checked_have_listings():
  assert CHECKS.keys() <= PAGES.keys()


# Of Brax, which imports jaxopt, and of its environments.
@pytest.mark.filterwarnings(
  "ignore:JAXopt is no longer:DeprecationWarning",
  "ignore:Brax System:UserWarning",
  "ignore:Accessing `[a-z]+` directly:DeprecationWarning",
)
@pytest.mark.parametrize("page", [page for page in PAGES if not page.startswith("algorithms/")])
def test_a_listing_runs(page, tmp_path, monkeypatch):
  """Those of the algorithms' pages are held by `test_algorithms.py`, without the training itself."""
  monkeypatch.chdir(tmp_path)
  scope = {"__name__": "listing"}
  for block in PAGES[page]:
    exec(compile(block, page, "exec"), scope)
  CHECKS.get(page, lambda scope: None)(scope)

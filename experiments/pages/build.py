"""All generated texts by path, and the generated pictures."""

import pathlib
import re
from collections.abc import Callable

from experiments.pages import algorithms, claims, imitation, learning, oracles, peers, readme
from experiments.pages.read import ROOT

PAGES: dict[str, Callable[[], str]] = {
  "learning": learning.page,
  "oracles": oracles.page,
  "rows": oracles.rows,
  "peers": peers.page,
  "claims": claims.page,
  "imitation": imitation.page,
}
"""The pages below `docs/results/`, by name."""

_NOTE = "<!-- Made from experiments/results/ by `python -m experiments.pages`. -->\n\n"
_BLOCK = re.compile(r"(<!-- results: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def texts() -> dict[pathlib.Path, str]:
  """What each generated file holds, by its path."""
  found = {ROOT / "docs" / "results" / f"{name}.md": _NOTE + page() for name, page in PAGES.items()}
  for name, text in algorithms.snippets().items():
    found[ROOT / "docs" / "results" / "algorithms" / f"{name}.md"] = _NOTE + text
  front = ROOT / "README.md"
  found[front] = _BLOCK.sub(lambda match: f"{match[1]}{readme.BLOCKS[match[2]]()}{match[3]}", front.read_text())
  return found


def pictures() -> None:
  """Draws the pictures that no experiment draws itself."""
  readme.picture()

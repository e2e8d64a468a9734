"""The generated pages say what the records hold."""

import re

import pytest

from experiments.pages import build
from experiments.pages.read import RESULTS, ROOT, Curve

TEXTS = build.texts()


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_is_what_its_records_give(path):
  assert path.read_text() == TEXTS[path], "python -m experiments.pages makes it anew"


def test_first_and_later_evaluations_around_a_target():
  curve = Curve([0, 10, 20, 30, 40], [1.0, 9.0, 4.0, 8.0, 7.0])
  assert (curve.first(8.0), curve.below_after(8.0)) == (10, 2)
  assert (curve.first(10.0), curve.below_after(10.0)) == (None, None)
  assert (curve.best, curve.last) == (9.0, 7.0)


def test_every_record_is_read_by_a_page():
  """A record that no page reads leaves the repository."""
  source = "".join(path.read_text() for path in (ROOT / "experiments" / "pages").glob("*.py"))
  pages = "".join(TEXTS.values())
  unread = []
  for path in sorted(RESULTS.rglob("*")):
    name = path.relative_to(RESULTS).as_posix()
    run = re.fullmatch(r"\w+/[\w-]+/\w+/(summary\.json|seed\d+/(metrics\.csv|config\.json))", name)
    oracle = re.fullmatch(r"oracles/\w+\.json", name)
    known = run or oracle or name in source or name in pages or path.stem in source
    if path.is_file() and not known:
      unread.append(name)
  assert not unread

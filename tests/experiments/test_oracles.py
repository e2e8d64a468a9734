"""Every algorithm against its exact answer: the table of `experiments.oracles`, short and (slow) in full."""

import pytest

from experiments.oracles.entries import ORACLES
from experiments.oracles.rows import Row, Scale
from experiments.oracles.table import measure, record, table
from varl import agents


def test_every_algorithm_has_an_oracle():
  assert set(ORACLES) == set(agents.AGENTS)
  assert all(ORACLES.values())


@pytest.mark.parametrize("algorithm", list(ORACLES))
def test_short(algorithm):
  rows = measure([algorithm], Scale((0,), short=True))
  text = table(rows)
  print(text)
  assert rows
  assert all(row.holds for row in rows), text


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", list(ORACLES))
def test_full(algorithm):
  rows = measure([algorithm], Scale((0, 1, 2, 3, 4), short=False))
  text = table(rows)
  print(text)
  assert rows
  assert all(row.holds for row in rows), text


def test_a_row_holds_by_its_mean_and_says_how_sure_it_is():
  row = Row("a", "p", "q", 1.0, 1.0, (0.01, 0.02, 0.03), 0.02)
  assert row.holds
  assert row.error == pytest.approx(0.02)
  assert row.interval == pytest.approx(4.302653 * 0.01 / 3**0.5, rel=1e-5)  # t_{.975} of 2 degrees of freedom
  assert not row._replace(tolerance=0.019).holds
  assert "FAILS" in table([row._replace(tolerance=0.019)])


def test_an_algorithm_without_an_oracle_is_an_error():
  with pytest.raises(ValueError, match="'sacc' has no oracle"):
    measure(["sacc"], Scale((0,), short=True))


def test_the_table_is_of_every_algorithm_recorded(tmp_path):
  def row(algorithm):
    return Row(algorithm, "p", "q", 1.0, 1.0, (0.01, 0.02), 0.02)

  record("sac_v1", [row("sac_v1")], (0, 1), 1.0, tmp_path)
  record("sac", [row("sac")], (0, 1), 1.0, tmp_path)
  assert (tmp_path / "table.md").read_text() == table([row("sac"), row("sac_v1")])
  assert sorted(path.name for path in tmp_path.iterdir()) == ["sac.json", "sac_v1.json", "table.md"]

"""Every algorithm against its exact answer: the table of `experiments/oracles.py`, short and (slow) in full."""

import pytest

from experiments import oracles
from varl import agents


def test_every_algorithm_has_an_oracle():
  assert set(oracles.ORACLES) == set(agents.AGENTS)
  assert all(oracles.ORACLES.values())


@pytest.mark.parametrize("algorithm", list(oracles.ORACLES))
def test_short(algorithm):
  rows = oracles.measure([algorithm], oracles.Scale((0,), short=True))
  text = oracles.table(rows)
  print(text)
  assert rows
  assert all(row.holds for row in rows), text


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", list(oracles.ORACLES))
def test_full(algorithm):
  rows = oracles.measure([algorithm], oracles.Scale((0, 1, 2, 3, 4), short=False))
  text = oracles.table(rows)
  print(text)
  assert rows
  assert all(row.holds for row in rows), text


def test_a_row_holds_by_its_mean_and_says_how_sure_it_is():
  row = oracles.Row("a", "p", "q", 1.0, 1.0, (0.01, 0.02, 0.03), 0.02)
  assert row.holds
  assert row.error == pytest.approx(0.02)
  assert row.interval == pytest.approx(4.302653 * 0.01 / 3**0.5, rel=1e-5)  # t_{.975} of 2 degrees of freedom
  assert not row._replace(tolerance=0.019).holds
  assert "FAILS" in oracles.table([row._replace(tolerance=0.019)])


def test_an_algorithm_without_an_oracle_is_an_error():
  with pytest.raises(ValueError, match="'sacc' has no oracle"):
    oracles.measure(["sacc"], oracles.Scale((0,), short=True))


def test_the_table_is_of_every_algorithm_recorded(tmp_path):
  def row(algorithm):
    return oracles.Row(algorithm, "p", "q", 1.0, 1.0, (0.01, 0.02), 0.02)

  oracles.record("sac_v1", [row("sac_v1")], (0, 1), 1.0, tmp_path)
  oracles.record("sac", [row("sac")], (0, 1), 1.0, tmp_path)
  assert (tmp_path / "table.md").read_text() == oracles.table([row("sac"), row("sac_v1")])
  assert sorted(path.name for path in tmp_path.iterdir()) == ["sac.json", "sac_v1.json", "table.md"]

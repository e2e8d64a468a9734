"""The page of exact answers."""

import math
import statistics
from typing import Any

from experiments.oracles.table import problem_set
from experiments.pages.read import RESULTS, machine, percent, record, shell, table

QUANTITIES = {
  "gain error": "gain",
  "mode gain error": "gain of the mode",
  "covariance error": "covariance",
  "value error": "value",
  "policy total variation": "total variation",
  "value lost": "value lost",
}


def recorded() -> dict[str, dict[str, Any]]:
  """The records by algorithm."""
  return {path.stem: record(f"oracles/{path.name}") for path in sorted((RESULTS / "oracles").glob("*.json"))}


def groups(body: dict[str, Any]) -> dict[tuple[str, str], list[dict[str, Any]]]:
  """Rows by kind of problem and quantity."""
  found: dict[tuple[str, str], list[dict[str, Any]]] = {}
  for row in body["rows"]:
    kind, _, variant = row["problem"].partition(", ")
    kind = " ".join(word for word in kind.split() if not word.isdigit())
    found.setdefault((f"{kind}, {variant}" if variant else kind, row["quantity"]), []).append(row)
  return found


def summary(name: str, body: dict[str, Any]) -> list[list[str]]:
  """One line per kind of problem and quantity: the median and the worst problem's mean over seeds, and misses."""
  out = []
  for (kind, quantity), rows in groups(body).items():
    errors = [row["error"] for row in rows]
    missed = sum(not row["holds"] for row in rows)
    out.append([
      name, kind, str(len(rows)), QUANTITIES.get(quantity, quantity), percent(statistics.median(errors)), percent(max(errors)),
      percent(rows[0]["tolerance"]), "all hold" if not missed else f"**{missed} of {len(rows)} miss**",
    ])  # fmt: skip
  return out


HEAD = ["algorithm", "problems", "number", "quantity", "median error", "worst error", "tolerance", ""]


def page() -> str:
  found = recorded()
  lines = [line for name, body in found.items() for line in summary(name, body)]
  seeds = sorted({len(body["seeds"]) for body in found.values()})
  missed = [name for name, body in found.items() if not all(row["holds"] for row in body["rows"])]
  old = [name for name, body in found.items() if body.get("problems") != problem_set()]
  stale = (
    f"\nThe problems have been made harder since: the records of {', '.join(old)} are of the earlier, easier ones.\n"
    if old
    else ""
  )
  verdict = f"Rows that miss their tolerance: {', '.join(missed)}." if missed else "Every row holds."
  return f"""# Against exact answers

Every algorithm is trained on problems whose answer is known in closed form or by enumeration (`varl.exact`), and what it learned is
compared with that answer. An error is the mean over {" or ".join(map(str, seeds))} seeds, relative to the exact quantity. The worst problem counts. {verdict}
{stale}
{table(HEAD, lines)}
[Every row](rows.md) has a line of its own. Made by

{shell("python -m experiments.oracles")}
on {machine(next(iter(found.values())))}.
"""


def rows() -> str:
  """The page of all rows."""
  lines = []
  for name, body in recorded().items():
    for row in body["rows"]:
      own = [f"{row['got']:.4g}", f"{row['exact']:.4g}"] if row["got"] or row["exact"] else ["", ""]
      interval = "" if math.isnan(row["interval"]) else f" ± {row['interval']:.4f}"
      lines.append([
        name, row["problem"], row["quantity"], *own, f"{row['error']:.4f}{interval}", f"{max(row['errors']):.4f}",
        f"{row['tolerance']:.3g}", "holds" if row["holds"] else "**MISS**",
      ])  # fmt: skip
  head = ["algorithm", "problem", "quantity", "got", "exact", "error, mean ± 95 %", "worst seed", "tolerance", ""]
  return f"# Every row of the oracle table\n\n{table(head, lines)}"

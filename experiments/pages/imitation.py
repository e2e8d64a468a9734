"""The page of imitation against the number of demonstrations."""

from typing import Any

from experiments.pages.read import RESULTS, each, machine, record, shell, table

CONTROLS = {None: "", "random": ", random actions shown", "shuffled": ", actions shuffled"}


def page() -> str:
  bodies = {path.stem: record(f"imitation/{path.name}") for path in sorted((RESULTS / "imitation").glob("*.json"))}
  head = (
    "# Imitation\n\nExpert-normalised return: 0 is that of uniformly random actions, 1 the expert's. Each figure is one seed, the mean of its "
    "last three evaluations. Of each demonstrated episode a row in so many is kept. Two controls: demonstrations of uniformly random actions, "
    "every row of them, where a return is the reward's own bias; and the expert's rows with their actions shuffled, which still show where it went.\n"
  )
  return "\n".join([head, *(environment(name, body) for name, body in bodies.items())])


def environment(name: str, body: dict[str, Any]) -> str:
  runs = list(body["runs"].values())
  counts = sorted({run["episodes"] for run in runs})
  rows = []
  for control, suffix in CONTROLS.items():
    for algorithm in dict.fromkeys(run["algorithm"] for run in runs if run["control"] == control):
      mine = [run for run in runs if run["algorithm"] == algorithm and run["control"] == control]
      label = f"{algorithm}{suffix}"
      cells = [each((run["normalised"] for run in mine if run["episodes"] == count), ".2f") for count in counts]
      rows.append([label, *(cell or "–" for cell in cells)])
  expert, random = (", ".join(sorted({f"{run[who]:,.0f}" for run in runs})) for who in ("expert", "random"))
  about = f"Expert {expert}, random {random}; one row in {body['subsample']} is kept. {machine(body)}.\n"
  titles = ["algorithm", *(f"{count} episode{'s' if count > 1 else ''}" for count in counts)]
  commands = dict.fromkeys(run["command"] for run in runs)
  return "\n".join([f"## {name}\n", about, table(titles, rows), shell("\n".join(commands))])

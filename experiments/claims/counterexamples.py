"""Which first action four objectives choose in the two counterexamples of `varl.exact.counterexamples`, over a grid.

    python -m experiments.claims.counterexamples

prints how often each objective chooses what pays most, and writes `experiments/results/counterexamples/`:
`summary.json` (the grid, the shares, and how many verdicts differ from the closed form) and `verdicts.png` (a slice of
each grid). Problems, verdicts and thresholds are exact, so that a second run gives the same numbers.
"""

import argparse
import json
import pathlib
import sys
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from varl.exact import counterexamples
from varl.run import doctor

RESULTS = pathlib.Path(__file__).parents[1] / "results" / "counterexamples"
LABELS = {
  "reward": "reward (value iteration)",
  "maxent": "MaxEnt (soft value iteration)",
  "pseudo_likelihood": "pseudo-likelihood (message passing)",
  "virel": "VIREL (exact EM)",
}
TEMPERATURES = np.geomspace(0.05, 20.0, 49)
LARGEST = 64
GAPS, SHARES = (0.25, 1.0, 4.0), (0.1, 0.5, 0.9)
SLICE = 1
"""The grid's first coordinate that is drawn: GAPS[1] and SHARES[1]."""


def rooms() -> dict[str, Any]:
  """r₁ = 1, r₂ = 1 + gap; axes: gap, k₁, temperature."""
  sizes = np.arange(2, LARGEST + 1)
  gap, k1, temperature = (x.ravel() for x in np.meshgrid(GAPS, sizes, TEMPERATURES, indexing="ij"))
  build = jax.vmap(partial(counterexamples.maxent_room, actions=LARGEST))
  return {
    "axes": {"gap": list(GAPS), "k1": sizes.tolist(), "temperature": TEMPERATURES.tolist()},
    "problems": build(jnp.asarray(k1), jnp.ones(gap.size), jnp.asarray(1.0 + gap)),
    "temperature": temperature,
    "right": counterexamples.SECOND_ROOM,
    "misled": "maxent",
    # In float64, and by itself: what the library computes is compared with it.
    "margin": temperature * np.log(k1) - gap,
  }


def lotteries() -> dict[str, Any]:
  """A safe 1 against a chance p of a jackpot J with the mean p J = share; axes: share, J, temperature."""
  jackpots = np.geomspace(1.5, 100.0, 49)
  share, jackpot, temperature = (x.ravel() for x in np.meshgrid(SHARES, jackpots, TEMPERATURES, indexing="ij"))
  chance = share / jackpot
  build = jax.vmap(counterexamples.lottery)
  return {
    "axes": {"share": list(SHARES), "jackpot": jackpots.tolist(), "temperature": TEMPERATURES.tolist()},
    "problems": build(jnp.ones(share.size), jnp.asarray(jackpot), jnp.asarray(chance)),
    "temperature": temperature,
    "right": counterexamples.SAFE,
    "misled": "pseudo_likelihood",
    "margin": temperature * np.logaddexp(np.log(chance) + jackpot / temperature, np.log1p(-chance)) - 1.0,
  }


def judge(grid: dict[str, Any]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """The record of a grid, and where each objective is right: bool by objective, with the grid's axes."""
  verdicts = jax.device_get(jax.jit(counterexamples.sweep)(grid["problems"], jnp.asarray(grid["temperature"])))
  shape = tuple(len(values) for values in grid["axes"].values())
  right = {name: (verdict == grid["right"]).reshape(shape) for name, verdict in verdicts._asdict().items()}
  margin = grid["margin"].reshape(shape)
  clear = np.abs(margin) > 1e-4 * (1.0 + np.abs(margin) + grid["temperature"].reshape(shape))
  record = {
    "axes": grid["axes"],
    "points": margin.size,
    "right": {name: int(where.sum()) for name, where in right.items()},
    "share_right": {name: float(where.mean()) for name, where in right.items()},
    "near_ties": int((~clear).sum()),
    "differs_from_closed_form": int((right[grid["misled"]] != (margin < 0))[clear].sum()),
  }
  return record, right


def draw(grids: dict[str, dict[str, Any]], rights: dict[str, dict[str, np.ndarray]], path: pathlib.Path) -> None:
  """A row a construction, a column an objective: right or wrong by cell, and the closed-form threshold as a line."""
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.colors import ListedColormap
  from matplotlib.figure import Figure
  from matplotlib.lines import Line2D
  from matplotlib.patches import Patch

  figure = Figure(figsize=(12.0, 5.8), layout="constrained")
  FigureCanvasAgg(figure)
  axes = figure.subplots(len(grids), len(LABELS), sharex=True, sharey="row")
  colours = ListedColormap(["#d6604d", "#dbe9f4"])
  vertical = {
    "maxent_room": f"final actions in room 1, k₁\n(room 2: one, paying {GAPS[SLICE]:g} more)",
    "lottery": f"jackpot (safe arm: 1,\nlottery's mean: {SHARES[SLICE]:g})",
  }
  for row, (name, grid) in enumerate(grids.items()):
    height = list(grid["axes"].values())[1]
    margin = grid["margin"].reshape(len(GAPS), len(height), -1)[SLICE]
    for column, objective in enumerate(LABELS):
      panel = axes[row, column]
      panel.pcolormesh(
        TEMPERATURES, height, rights[name][objective][SLICE], cmap=colours, vmin=0, vmax=1, rasterized=True
      )
      if objective == grid["misled"]:
        panel.contour(TEMPERATURES, height, margin, levels=[0.0], colors="black", linewidths=1.4)
      panel.set_xscale("log")
      panel.set_yscale("log", base=2 if name == "maxent_room" else 10)
      if row == 0:
        panel.set_title(LABELS[objective], fontsize="medium")
      else:
        panel.set_xlabel("temperature c (VIREL: scale c)")
    axes[row, 0].set_ylabel(vertical[name])
  legend = [
    Patch(color=colours(1), label="chooses what pays most"),
    Patch(color=colours(0), label="does not"),
    Line2D([], [], color="black", linewidth=1.4, label="closed-form threshold"),
  ]
  figure.legend(handles=legend, loc="outside lower center", ncols=len(legend), frameon=False)
  figure.savefig(path, format="png", dpi=150)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
  args = parser.parse_args()
  args.out.mkdir(parents=True, exist_ok=True)
  grids = {"maxent_room": rooms(), "lottery": lotteries()}
  records, rights = {}, {}
  for name, grid in grids.items():
    records[name], rights[name] = judge(grid)
  print(f"{'chooses what pays most':38}" + "".join(f"{name:>14}" for name in grids))
  for objective, label in LABELS.items():
    print(f"{label:38}" + "".join(f"{record['share_right'][objective]:14.1%}" for record in records.values()))
  for name, record in records.items():
    print(
      f"{name}: {record['points']} points, {record['differs_from_closed_form']} verdicts of "
      f"{grids[name]['misled']} differ from the closed form ({record['near_ties']} near ties left out)"
    )
  draw(grids, rights, args.out / "verdicts.png")
  body = {
    "command": " ".join(["python -m experiments.claims.counterexamples", *sys.argv[1:]]),
    **records,
    **doctor.device_summary(),
  }
  (args.out / "summary.json").write_text(json.dumps(body, indent=2) + "\n")


if __name__ == "__main__":
  main()

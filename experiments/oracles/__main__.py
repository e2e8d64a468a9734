"""Every algorithm against an exact answer: one table of what was learned beside what is true.

    python -m experiments.oracles                 # all algorithms, 5 seeds, all problems (hours on two CPU cores)
    python -m experiments.oracles --short         # one seed, fewer problems and updates, wider limits (a minute each)
    python -m experiments.oracles --algorithms sac_discrete --seeds 0 1

A policy is measured as it acts: actions are drawn from the trained agent's `act` at given states, and compared with
the policy that `varl.exact` gives. Values are compared at the states and actions of the problem. Every row is one
quantity of one problem; its error is the mean over seeds with a 95 % interval, and it holds where that mean is within
tolerance.
Writes `experiments/results/oracles/<algorithm>.json`, and `table.md` of all algorithms that are recorded there.

A new algorithm enters by one entry in `experiments/oracles/entries.py`.
"""

import argparse
import pathlib
import sys
import time

from experiments.oracles.entries import ORACLES
from experiments.oracles.rows import Row, Scale
from experiments.oracles.table import measure, record, table

RESULTS = pathlib.Path(__file__).parents[1] / "results" / "oracles"


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--algorithms", nargs="+", choices=list(ORACLES), default=list(ORACLES))
  parser.add_argument("--seeds", type=int, nargs="+")
  parser.add_argument("--short", action="store_true")
  parser.add_argument("--out", type=pathlib.Path, help="a folder; by default the results' own, of the full form alone")
  args = parser.parse_args()
  seeds = tuple(args.seeds) if args.seeds else (0,) if args.short else (0, 1, 2, 3, 4)
  out = args.out or (None if args.short or args.seeds else RESULTS)
  rows: list[Row] = []
  for algorithm in args.algorithms:
    started = time.perf_counter()
    found = measure([algorithm], Scale(seeds, args.short))
    seconds = time.perf_counter() - started
    print(table(found))
    print(f"{algorithm}: {sum(row.holds for row in found)} of {len(found)} hold; {seconds:.0f} s", flush=True)
    rows += found
    if out is not None:
      record(algorithm, found, seeds, seconds, out)
  sys.exit(0 if all(row.holds for row in rows) else 1)


if __name__ == "__main__":
  main()

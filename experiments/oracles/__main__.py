"""Every algorithm against an exact answer: one table of what was learned beside what is true.

    python -m experiments.oracles                 # all algorithms that are not recorded yet, 3 seeds, all problems
    python -m experiments.oracles --short         # one seed, fewer problems and updates, wider limits (a minute each)
    python -m experiments.oracles --algorithms sac_discrete --seeds 0 1 --out /tmp/table

The problems are ten linear-quadratic ones (`regulators.problems`) and twenty finite processes (`finite.processes`).
A policy is measured as it acts: actions are drawn from the trained agent's `act` at given states, and compared with
the policy that `varl.exact` gives; its `mode` is held to the same gain. Values are compared at the states and actions
of the problem. Every row is one quantity of one problem; its error is the mean over seeds with a 95 % interval, and it
holds where that mean is within tolerance. A row that does not is a MISS, and stays.

Runs are spread over the CPU's cores. Each algorithm is written as soon as it is done, to
`experiments/results/oracles/<algorithm>.json`; `python -m experiments.pages` makes the pages of all that are recorded.
Those that are recorded for the same problems and seeds are passed over, unless `--again` is given.

A new algorithm enters by one entry in `experiments/oracles/entries.py`.
"""

import argparse
import pathlib
import sys
import time

from experiments.oracles.entries import ORACLES
from experiments.oracles.rows import Row, Scale
from experiments.oracles.table import measure, record, recorded, table
from varl.run import devices

RESULTS = pathlib.Path(__file__).parents[1] / "results" / "oracles"


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--algorithms", nargs="+", choices=list(ORACLES), default=list(ORACLES))
  parser.add_argument("--seeds", type=int, nargs="+")
  parser.add_argument("--short", action="store_true")
  parser.add_argument("--again", action="store_true", help="measure also what is recorded")
  parser.add_argument("--out", type=pathlib.Path, help="a folder, by default the results' own")
  args = parser.parse_args()
  if args.short and args.out:
    parser.error("the short form is printed alone: --out is of the full one")
  seeds = tuple(args.seeds) if args.seeds else (0,) if args.short else (0, 1, 2)
  out = None if args.short else args.out or RESULTS
  devices.provide(devices.cores())
  rows: list[Row] = []
  for algorithm in args.algorithms:
    if out is not None and not args.again and recorded(algorithm, out, seeds):
      print(f"{algorithm}: recorded in {out}", flush=True)
      continue
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

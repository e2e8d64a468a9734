"""What the persistent compile cache saves: the same command, started for the first time and again.

    python -m experiments.claims.compile_cache --repeats 3

Each repeat starts `varl train` in three fresh processes: with an empty cache directory, with the one that the first has
filled, and with `--no-compile-cache`. Writes `experiments/results/compile_cache.json`: of each start the seconds until
the programs are compiled, the seconds of the whole command, and its peak memory.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from varl.report import records
from varl.run import doctor

RESULTS = pathlib.Path(__file__).parents[1] / "results" / "compile_cache.json"
TRAIN = ("train", "sac", "--env", "inverted_pendulum", "--num-timesteps", "6000")
STARTS = {"first": (), "second": (), "no cache": ("--no-compile-cache",)}


def start(cache: str, out: str, flags: tuple[str, ...]) -> dict[str, float]:
  """One start of the command in a process of its own, its cache under `cache`."""
  own = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"} | {"XDG_CACHE_HOME": cache}
  begun = time.perf_counter()
  process = subprocess.Popen(
    [sys.executable, "-m", "varl", *TRAIN, "--out", out, *flags], env=own, stdout=subprocess.DEVNULL
  )
  _, status, usage = os.wait4(process.pid, 0)
  if status:
    raise RuntimeError(f"varl {' '.join(TRAIN)} ended with status {status}")
  row = records.read(out)[0]
  return {
    "compile_s": row["training/compile_time"],
    "seconds": time.perf_counter() - begun,
    "peak_mib": usage.ru_maxrss / 1024,
  }


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--repeats", type=int, default=3)
  args = parser.parse_args()
  found: dict[str, list[dict[str, float]]] = {name: [] for name in STARTS}
  for repeat in range(args.repeats):
    with tempfile.TemporaryDirectory() as folder:
      for name, flags in STARTS.items():
        found[name].append(start(f"{folder}/cache", f"{folder}/{name.replace(' ', '-')}", flags))
        print(repeat, name, found[name][-1], flush=True)
  medians = {name: {k: statistics.median(row[k] for row in rows) for k in rows[0]} for name, rows in found.items()}
  body = {
    "command": f"python -m experiments.claims.compile_cache --repeats {args.repeats}",
    "train": f"varl {' '.join(TRAIN)}",
    "medians": medians,
    "starts": found,
    **doctor.device_summary(),
  }
  RESULTS.write_text(json.dumps(body, indent=2) + "\n")
  print(json.dumps(medians, indent=2))


if __name__ == "__main__":
  main()

"""The README's figures and picture."""

from experiments.pages import oracles, peers
from experiments.pages.read import RESULTS, ROOT, each, record, runs, table
from varl.report import plots

SHOWN = ("sac", "virel", "iterative_sac", "sql", "mpo", "rerpi")
"""The algorithms of the README's picture."""


def measured() -> str:
  """What is measured against whom, in a few lines."""
  sac = runs("curves", "inverted_pendulum")["sac"]
  speed, ppo, times = (
    record("throughput-halfcheetah.json"),
    record("ppo_peer/throughput-halfcheetah.json"),
    peers.times(),
  )
  exact = oracles.recorded()
  missing = [name for name, body in exact.items() if not all(row["holds"] for row in body["rows"])]
  rows = sum(len(body["rows"]) for body in exact.values())
  held = sum(row["holds"] for body in exact.values() for row in body["rows"])
  return table(
    ["what", "beside", "figure"],
    [
      ["environment steps per second, SAC on halfcheetah", "Brax's SAC", f"{speed['ratio_varl_over_brax']:.2f} × ({speed['ratio_min_max'][0]:.2f} to {speed['ratio_min_max'][1]:.2f})"],
      ["peak memory of that process", "Brax's SAC", f"{speed['peak_mib_varl'] / speed['peak_mib_brax']:.2f} ×"],
      ["seconds from process start to 950 on inverted_pendulum", "Brax's SAC", f"{peers.median_ratio(times['first']):.2f} × (median of {len(times['first']['varl'])} seeds)"],
      ["environment steps per second, PPO on halfcheetah", "Brax's PPO", f"{ppo['ratio_varl_over_brax']:.2f} ×"],
      ["steps of SAC to 950 on inverted_pendulum", "", f"{each(c.first(950.0) for c in sac.curves.values())} (by seed)"],
      ["learned policies and values", "exact answers", f"{held} of {rows} rows within tolerance" + (f" ({', '.join(missing)} miss some)" if missing else "")],
    ],
  )  # fmt: skip


def cache() -> str:
  """What a second start of one command saves."""
  first, second = (record("compile_cache.json")["medians"][name] for name in ("first", "second"))
  return (
    f"A second start of one command compiles {second['compile_s']:.0f} s in place of {first['compile_s']:.0f} and takes "
    f"{second['peak_mib']:,.0f} MiB at its peak in place of\n{first['peak_mib']:,.0f} "
    "([record](experiments/results/compile_cache.json), `python -m experiments.claims.compile_cache`).\n"
  )


BLOCKS = {"measured": measured, "cache": cache}
"""The blocks of the README by name: text between `<!-- results: NAME -->` and `<!-- end -->`."""


def picture() -> None:
  """Draws the learning curves that the README shows."""
  found = runs("curves", "inverted_pendulum")
  shown = {name: [RESULTS / found[name].folder / f"seed{seed}" for seed in found[name].curves] for name in SHOWN}
  plots.curves(shown, ROOT / "docs" / "_static" / "curves.png", title="inverted_pendulum, mean and range over seeds")

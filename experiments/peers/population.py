"""Seeds together, and one after another: how long 32 seeds of SAC on the point mass take.

    python -m experiments.peers.population           # a few minutes on two cores
    python -m experiments.peers.population --smoke   # 4 seeds, few steps; prints, and writes nothing

Three processes: `varl.population` of all seeds; one `varl.train` a seed in one process, whose programs after the first
run come from JAX's cache; and one program that maps `vmap` over all seeds. Each is timed whole, compiling and all, and
by its training alone. The largest differences between a seed's returns together and alone are at the first evaluation
after training began, and at the last. Writes `experiments/results/population.json`.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

RESULT = pathlib.Path(__file__).parents[1] / "results" / "population.json"
SETTINGS: dict[str, Any] = {
  "num_timesteps": 20_000, "num_envs": 8, "warm_up": 1_000, "batch_size": 64, "hidden": (32, 32), "eval_every": 2_000,
  "episode_length": 50, "replay_capacity": 20_000, "updates_per_env_step": 0.5, "preset": False,
}  # fmt: skip
ENV = "point_mass"


def together(seeds: int, settings: dict[str, Any], cache: str) -> dict[str, Any]:
  import varl

  found = varl.population("sac", ENV, seeds=seeds, **settings)
  return {
    "returns": found.returns().tolist(),
    "training": found.members[0].metrics[-1]["training/walltime"],
  }


def alone(seeds: int, settings: dict[str, Any], cache: str) -> dict[str, Any]:
  import jax

  import varl

  jax.config.update("jax_compilation_cache_dir", cache)
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
  runs = [varl.train("sac", ENV, seed=seed, **settings) for seed in range(seeds)]
  return {
    "returns": [[row["eval/episode_reward"] for row in run.metrics] for run in runs],
    "training": sum(run.metrics[-1]["training/walltime"] - run.metrics[0]["training/walltime"] for run in runs),
  }


def mapped(seeds: int, settings: dict[str, Any], cache: str) -> dict[str, Any]:
  import jax

  import varl
  from varl.run import configure

  env = varl.envs.make(ENV)
  run = configure.resolve("sac", ENV, **settings)
  agent = varl.agents.load("sac").make(varl.envs.spec(env), run.config)
  program = jax.jit(jax.vmap(varl.make_trainer(env, agent, run.settings).run))
  keys = jax.vmap(jax.random.key)(jax.numpy.arange(seeds))
  compiled = program.lower(keys).compile()
  started = time.perf_counter()
  returns = jax.block_until_ready(compiled(keys))[1]["eval/episode_reward"]
  return {"returns": returns.tolist(), "training": time.perf_counter() - started}


FORMS = {"together": together, "alone": alone, "vmap": mapped}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--smoke", action="store_true")
  parser.add_argument("--form", choices=FORMS, help=argparse.SUPPRESS)
  parser.add_argument("--cache", help=argparse.SUPPRESS)
  args = parser.parse_args()
  seeds = 4 if args.smoke else 32
  settings = {**SETTINGS, **({"num_timesteps": 4_000} if args.smoke else {})}
  if args.form:
    print("RESULT " + json.dumps(FORMS[args.form](seeds, settings, args.cache)))
    return
  from varl.run import doctor

  found: dict[str, Any] = {}
  for form in FORMS:
    with tempfile.TemporaryDirectory() as cache:
      smoke = ["--smoke"] if args.smoke else []
      command = [sys.executable, "-m", "experiments.peers.population", "--form", form, "--cache", cache, *smoke]
      started = time.perf_counter()
      ran = subprocess.run(command, capture_output=True, text=True, check=False)
      whole = time.perf_counter() - started
    line = next((line for line in ran.stdout.splitlines() if line.startswith("RESULT ")), None)
    if line is None:
      raise RuntimeError(f"{form} failed: {ran.stderr[-2_000:]}")
    found[form] = {"whole": whole, **json.loads(line.removeprefix("RESULT "))}
    print(form, f"{whole:.1f} s, of which training {found[form]['training']:.1f} s", flush=True)
  one, other = found["together"]["returns"], found["alone"]["returns"]
  difference = [max(abs(a[at] - b[at]) for a, b in zip(one, other, strict=True)) for at in (1, -1)]
  body = {
    "command": "python -m experiments.peers.population", "seeds": seeds, "env": ENV, "settings": settings,
    "seconds": {form: {"whole": each["whole"], "training": each["training"]} for form, each in found.items()},
    "ratio_alone_over_together": {
      kind: found["alone"][kind] / found["together"][kind] for kind in ("whole", "training")
    },
    "largest_difference": {"first evaluation": difference[0], "last": difference[1]},
    "last_returns": {form: [each[-1] for each in found[form]["returns"]] for form in ("together", "alone")},
    **doctor.device_summary(),
  }  # fmt: skip
  print(json.dumps(body["ratio_alone_over_together"]), json.dumps(body["largest_difference"]))
  if not args.smoke:
    RESULT.write_text(json.dumps(body, indent=1) + "\n")


if __name__ == "__main__":
  main()

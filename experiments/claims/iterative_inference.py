"""What inference iterations improve: iterative against direct soft actor-critic (Fig. 2 and 3b of Marino et al. 2019).

    python -m experiments.claims.iterative_inference --env halfcheetah --seeds 0 1 2
    python -m experiments.claims.iterative_inference --short            # a smoke run on the point mass (two minutes)
    python -m experiments.claims.iterative_inference --iterative-flags inference_iterations=5 samples=10 --out FOLDER

Trains `iterative_sac` and `sac` with their presets, one run a seed and algorithm, and measures, at states that each
trained agent meets when it acts:

- the objective J̃ by inference iteration, of as many iterations as `--shown` (Fig. 2; the network is iterated on beyond
  the number that it was trained with, which is marked);
- the amortisation gap of each agent on its own critic, against gradient ascent on each state's policy itself, and the
  iterative agent's by iteration likewise;
- the same where only the inference differs: on the iterative agent's critic, held fixed, a direct and an iterative
  network are trained anew, with the same hidden layers, samples, updates and states, and judged at other states;
- the time of one update relative to SAC's, beside the ratio of multiplications that the two imply.

Intervals are 95 %, Student's t over seeds; over states where there is a single seed. Writes to
`experiments/results/iterative/<env>/`: `summary.json`, `improvement.png` and `gap.png`.
"""

import argparse
import ast
import dataclasses
import json
import pathlib
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import stats

import varl
from varl import agents, components, envs, networks, normalize, posteriors
from varl.agents import iterative_sac
from varl.envs.vector import vectorize
from varl.loop import rollout
from varl.report import diagnostics, records
from varl.run import configure, doctor
from varl.types import Design, Transition

RESULTS = pathlib.Path(__file__).parents[1] / "results" / "iterative"


@dataclasses.dataclass(frozen=True)
class Scale:
  """How much is measured.

  Attributes:
    states: at which objectives and gaps are measured.
    steps: of the ascent that the gap is measured against.
    fit: updates of the networks that are trained anew on a fixed critic.
    envs, length: of the rollout that states are taken from; the first half of its steps is left out.
  """

  states: int = 128
  steps: int = 300
  fit: int = 5_000
  envs: int = 64
  length: int = 256


SHORT = Scale(states=64, steps=100, fit=200, envs=16, length=32)


def interval(values: Sequence[float]) -> dict[str, float]:
  """Mean and half the width of its 95 % interval (Student's t); NaN for a single value."""
  n = len(values)
  half = float(stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
  return {"mean": float(np.mean(values)), "half_width": half}


def states_met(out: pathlib.Path, scale: Scale, key: jax.Array) -> tuple[Any, Any, Any, jax.Array]:
  """(algorithm's module, its config, parameters, observations `[N, o]` as its axes see them) of a run."""
  run, policy = configure.read(out), varl.load_policy(out)
  env = vectorize(envs.make(run.env, run.backend), scale.envs, episode_length=run.settings.episode_length or None)
  reset_key, unroll_key, mix_key = jax.random.split(key, 3)

  @jax.jit
  def collect(params: Any) -> jax.Array:
    state = rollout.init(env, policy.agent, reset_key)
    _, transitions, _, _ = rollout.unroll(env, policy.agent, params, state, unroll_key, scale.length)
    obs = transitions.obs[scale.length // 2 :].reshape(-1, transitions.obs.shape[-1])
    obs = jax.random.permutation(mix_key, obs)
    return normalize.apply(params["normalizer"], obs) if "normalizer" in params else obs

  return agents.load(run.algorithm), run.config, policy.params, collect(policy.params)


def gap_at(design: Design, head: Any, params: Any, obs: jax.Array, key: jax.Array, scale: Scale, target: bool) -> Any:
  measure = jax.jit(
    lambda params, obs, key: diagnostics.amortisation_gap(
      design, head, params, obs, key, steps=scale.steps, samples=16, restarts=2, target=target
    )
  )
  gap = measure(params, obs, key)
  return {
    **interval(np.asarray(gap.gap, np.float64).tolist()),
    "posterior": float(jnp.mean(gap.posterior)),
    "optimum": float(jnp.mean(gap.optimum)),
  }


def improvement(spec: Any, config: Any, params: Any, obs: jax.Array, key: jax.Array, shown: int) -> list[float]:
  """J̃ by iteration, averaged over states, `shown` iterations of the trained network."""
  design = iterative_sac.design(spec, dataclasses.replace(config, inference_iterations=shown))
  measure = jax.jit(lambda params, obs, key: diagnostics.objective_by_iteration(design, params, obs, key, rounds=64))
  return np.asarray(measure(params, obs, key).mean(axis=1), np.float64).tolist()


def refit(spec: Any, config: Any, params: Any, obs: jax.Array, key: jax.Array, scale: Scale) -> dict[str, Any]:
  """Gaps of a direct and of an iterative network trained anew on this agent's critic, which is held fixed."""
  head = components.head(spec, config.policy, init_std=config.initial_std)
  design = iterative_sac.design(spec, config)
  hidden = {"hidden": config.hidden, "activation": config.activation}
  # Where the policy's loss is the same, the posterior alone differs: `direct` descends the learning critic, so the slow
  # one takes its place for all.
  design = design._replace(value=design.value._replace(q=design.value.q_target))
  held_out, train = obs[: scale.states], obs[scale.states :]

  def of(posterior: Any, key: jax.Array) -> dict[str, Any]:
    fitted = design._replace(posterior=posterior)
    step = posterior.step(fitted)
    init_key, fit_key, gap_key = jax.random.split(key, 3)

    def one(carry: Any, key: jax.Array) -> Any:
      row_key, key = jax.random.split(key)
      rows = train[jax.random.randint(row_key, (128,), 0, len(train))]
      nothing = jnp.zeros(len(rows))
      batch = Transition(rows, nothing, nothing, nothing, rows, nothing, {})
      new, state, _ = step.step(*carry, batch, key)
      return (new, state), None

    @jax.jit
    def fit(params: Any, key: jax.Array) -> Any:
      start = {**params, **posterior.init(init_key)}
      (params, _), _ = jax.lax.scan(one, (start, step.init(start)), jax.random.split(key, scale.fit))
      return params

    return gap_at(fitted, head, fit(params, fit_key), held_out, gap_key, scale, True)

  rate = optax.cosine_decay_schedule(1e-3, scale.fit)
  direct_network = networks.mlp(spec.observation_size, head.size, **hidden)
  inputs = posteriors.iterative_inputs(spec.observation_size, head)
  iterative_network = networks.mlp(inputs, 2 * head.size, zero_output=True, **hidden)
  return {
    "direct": of(posteriors.direct(direct_network, head, optax.adam(rate), samples=config.samples), key),
    "iterative": of(
      posteriors.iterative(
        iterative_network,
        head,
        optax.adam(rate),
        iterations=config.inference_iterations,
        samples=config.samples,
        gradient_norm=config.gradient_norm,
      ),
      key,
    ),
  }


def draw_improvement(by_seed: np.ndarray, trained_with: int, path: pathlib.Path) -> None:
  """Fig. 2: improvement over the start by iteration, absolute and relative; band: ± one deviation over seeds."""
  figure, axes = _figure(2)
  gain = by_seed - by_seed[:, :1]
  for panel, values, label in (
    (axes[0], gain, "improvement of the objective"),
    (axes[1], 100 * gain / np.abs(by_seed[:, :1]), "improvement, % of the start's size"),
  ):
    mean, std = values.mean(axis=0), values.std(axis=0)
    steps = np.arange(len(mean))
    panel.plot(steps, mean, marker="o", markersize=3.5)
    panel.fill_between(steps, mean - std, mean + std, alpha=0.2, linewidth=0)
    panel.axvline(trained_with, color="0.6", linestyle="--", linewidth=1.0)
    panel.set_xlabel(f"inference iterations (trained with {trained_with})")
    panel.set_ylabel(label)
  figure.savefig(path, format="png", dpi=150)


def draw_gaps(
  gaps: dict[str, dict[str, float]], by_iteration: list[dict[str, float]], direct: dict[str, float], path: pathlib.Path
) -> None:
  """Left: one gap an agent. Right: the iterative agent's own by iteration, beside SAC's on its own critic."""
  figure, (panel, right) = _figure(2)
  names = list(gaps)
  for place, name in enumerate(names):
    half = gaps[name]["half_width"]
    panel.errorbar(place, gaps[name]["mean"], yerr=None if np.isnan(half) else half, fmt="o", capsize=6)
  panel.set_xticks(range(len(names)), names)
  panel.set_xlim(-0.5, len(names) - 0.5)
  panel.axhline(0.0, color="0.6", linewidth=1.0)
  panel.set_ylabel("amortisation gap (return), 95 % interval")
  means, halves = (np.array([gap[part] for gap in by_iteration]) for part in ("mean", "half_width"))
  right.errorbar(
    range(len(means)), means, yerr=None if np.isnan(halves).any() else halves, fmt="o-", capsize=3, markersize=3.5
  )
  right.axhline(direct["mean"], color="C1", linewidth=1.0, label="SAC, own critic")
  if not np.isnan(direct["half_width"]):
    low, high = direct["mean"] - direct["half_width"], direct["mean"] + direct["half_width"]
    right.axhspan(low, high, color="C1", alpha=0.15)
  right.set_ylim(bottom=0.0)
  right.set_xlabel("inference iterations of iterative SAC, own critic")
  right.legend(frameon=False)
  figure.savefig(path, format="png", dpi=150)


def _figure(panels: int) -> tuple[Any, Any]:
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  figure = Figure(figsize=(5.2 * panels if panels > 1 else 7.0, 3.8), layout="constrained")
  FigureCanvasAgg(figure)
  axes = figure.subplots(1, panels, squeeze=False)[0]
  for panel in axes:
    panel.grid(True, color="0.9", linewidth=0.8)
    panel.spines[["top", "right"]].set_visible(False)
  return figure, axes


def over_seeds(each: list[dict[str, Any]]) -> dict[str, float]:
  """The interval over seeds, or over states where there is one seed."""
  if len(each) == 1:
    return {"mean": each[0]["mean"], "half_width": each[0]["half_width"]}
  return interval([one["mean"] for one in each])


def settings_from(flags: Sequence[str]) -> dict[str, Any]:
  """`name=value` pairs; values are Python literals, and words otherwise."""
  settings = {}
  for flag in flags:
    name, _, text = flag.partition("=")
    try:
      settings[name] = ast.literal_eval(text)
    except (ValueError, SyntaxError):
      settings[name] = text
  return settings


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--env", default="halfcheetah")
  parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
  parser.add_argument("--shown", type=int, default=10, help="iterations of the improvement's figure")
  parser.add_argument("--flags", nargs="*", default=[], help="name=value settings of both algorithms")
  parser.add_argument("--iterative-flags", nargs="*", default=[], help="name=value settings of iterative_sac alone")
  parser.add_argument("--short", action="store_true")
  parser.add_argument("--out", type=pathlib.Path, help="a folder; by default one of the results' own, unless --short")
  args = parser.parse_args()
  scale = SHORT if args.short else Scale()
  common = settings_from(args.flags)
  if args.short:
    args.env, args.seeds = "point_mass", args.seeds[:1]
    common = {
      "num_timesteps": 3_000, "num_envs": 8, "updates_per_env_step": 0.25, "batch_size": 64, "hidden": (32, 32),
      "learning_rate": 1e-3, "warm_up": 500, "eval_every": 1_000, "episode_length": 50, "replay_capacity": 10_000,
      **common,
    }  # fmt: skip
  own = {"iterative_sac": {**common, **settings_from(args.iterative_flags)}, "sac": common}
  if args.short:
    own["iterative_sac"] = {"inference_iterations": 2, "samples": 4, **own["iterative_sac"]}
  scratch = pathlib.Path(tempfile.mkdtemp())
  results = args.out or (scratch / "results" if args.short else RESULTS / args.env)
  results.mkdir(parents=True, exist_ok=True)
  spec = envs.spec(envs.make(args.env))

  outs: dict[str, list[pathlib.Path]] = {name: [] for name in own}
  runs: dict[str, Any] = {name: {} for name in own}
  curves, gaps = [], {name: [] for name in ("iterative_sac", "sac", "refitted iterative", "refitted direct")}
  for seed in args.seeds:
    for name, overrides in own.items():
      out = scratch / f"{name}-seed{seed}"
      started = time.perf_counter()
      varl.train(name, args.env, seed=seed, out=out, **overrides)
      outs[name].append(out)
      returns = [row["eval/episode_reward"] for row in records.read(out)]
      record: dict[str, Any] = {
        "seconds": time.perf_counter() - started,
        "final_return": returns[-1],
        "best_return": max(returns),
      }
      keys = jax.random.split(jax.random.key(seed), 4)
      module, config, params, obs = states_met(out, scale, keys[0])
      # SAC's network starts at another deviation, within the same family.
      head = components.head(spec, config.policy, init_std=iterative_sac.Config.initial_std)
      target = name == "iterative_sac" and config.infer_with_target
      record["gap"] = gap_at(module.design(spec, config), head, params, obs[: scale.states], keys[1], scale, target)
      gaps[name].append(record["gap"])
      if name == "iterative_sac":
        record["objective"] = improvement(spec, config, params, obs[: scale.states], keys[2], args.shown)
        curves.append(record["objective"])
        record["refitted"] = refit(spec, config, params, obs, keys[3], scale)
        gaps["refitted iterative"].append(record["refitted"]["iterative"])
        gaps["refitted direct"].append(record["refitted"]["direct"])
      runs[name][str(seed)] = record
      print(json.dumps({"algorithm": name, "seed": seed, **record}), flush=True)

  configs = {name: configure.read(outs[name][0]).config for name in own}
  labels = {
    "iterative_sac": "iterative SAC,\nown critic",
    "sac": "SAC,\nown critic",
    "refitted iterative": "iterative,\none fixed critic",
    "refitted direct": "direct,\none fixed critic",
  }
  optima = [gap["optimum"] for gap in gaps["iterative_sac"]]
  gap_by_iteration = [
    interval([optimum - reached for optimum, reached in zip(optima, column, strict=True)])
    for column in zip(*curves, strict=True)
  ]
  summary = {
    "command": " ".join(["python -m experiments.claims.iterative_inference", *sys.argv[1:]]),
    "env": args.env,
    "runs": runs,
    "gap": {name: over_seeds(each) for name, each in gaps.items()},
    "interval_over": "seeds" if len(args.seeds) > 1 else "states",
    "gap_by_iteration": gap_by_iteration,
    "objective_by_iteration": np.mean(curves, axis=0).tolist(),
    "trained_iterations": configs["iterative_sac"].inference_iterations,
    **doctor.device_summary(),
  }
  (results / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
  draw_improvement(np.asarray(curves), summary["trained_iterations"], results / "improvement.png")
  named = {labels[name]: gap for name, gap in summary["gap"].items()}
  draw_gaps(named, gap_by_iteration, summary["gap"]["sac"], results / "gap.png")
  print(json.dumps({key: summary[key] for key in ("gap", "gap_by_iteration", "objective_by_iteration")}, indent=1))
  print(f"written to {results}")


if __name__ == "__main__":
  main()

"""Why the M-step's trust region is decoupled: weighted maximum likelihood on two bandits (1812.02256, section 4.2).

    python -m experiments.claims.trust_region_bandits

A Gaussian policy without observations maximises -f(a) by MPO's parts: it draws actions, weighs them by rank, and is
fitted to them; f is the sphere or Rosenbrock's function, and the start is far from the optimum and narrow. Two M-steps
from the same start and draws:

- *plain*: the likelihood of the weighted actions alone. The fitted deviation is that of the better half of what was
  drawn, smaller than the one drawn with, and the policy narrows to a point before it has arrived.
- *decoupled*: mean and covariance each have a likelihood and a KL budget of their own. The covariance is fitted about
  the *old* mean, so that it widens along the way that the mean is going, and narrows once it is there.

Writes `experiments/results/trust_region_bandits/`: `summary.json` and a picture a function, of f at the mean and of the
policy's deviation over iterations (median over seeds, band from the lowest to the highest).
"""

import argparse
import json
import pathlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from varl import duals, policies, posteriors, priors, temperatures
from varl.networks import Network
from varl.run import doctor
from varl.types import Design, Transition, Value

RESULTS = pathlib.Path(__file__).parents[1] / "results" / "trust_region_bandits"

INNER = 100
"""Gradient steps of an M-step."""


class Bandit(NamedTuple):
  """A function to minimise.

  Attributes:
    cost: `[..., d] -> [...]`, 0 at its minimum.
    start: `[d]`, the first mean.
    std: the first deviation.
  """

  cost: Callable[[jax.Array], jax.Array]
  start: tuple[float, ...]
  std: float


def sphere(a: jax.Array) -> jax.Array:
  return jnp.sum(jnp.square(a), axis=-1)


def rosenbrock(a: jax.Array) -> jax.Array:
  return jnp.sum(100.0 * jnp.square(a[..., 1:] - jnp.square(a[..., :-1])) + jnp.square(1.0 - a[..., :-1]), axis=-1)


BANDITS = {
  "sphere": Bandit(sphere, (3.0,) * 5, 0.3),
  "rosenbrock": Bandit(rosenbrock, (-1.2, 1.0), 0.1),
}

M_STEPS = ("plain", "decoupled")


def course(
  bandit: Bandit, m_step: str, seed: int, *, iterations: int, samples: int
) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
  """`[iterations]` f at the mean and the geometric mean of the deviations , and the budgets used."""
  size = len(bandit.start)
  head = policies.gaussian(size, init_std=bandit.std, min_std=0.0)
  start = jnp.concatenate([jnp.asarray(bandit.start), jnp.zeros(head.size - size)])
  network = Network(lambda key: start, lambda params, obs: jnp.broadcast_to(params, (*obs.shape[:-1], head.size)))
  free = m_step == "plain"

  def bound(initial: float, budget: float) -> priors.Bound:
    return priors.Bound(duals.dual(initial, transform="softplus", floor=0.0), budget)

  prior = priors.learned(
    network,
    head,
    optax.adam(1e-2),
    {"mean": bound(1.0, 0.1), "covariance": bound(1.0, 5e-3)},
    optax.sgd(0.0) if free else optax.adam(0.1),
    target_every=INNER,
    decoupled=not free,
  )

  def q(params: Any, obs: jax.Array, action: jax.Array) -> jax.Array:
    return -bandit.cost(action)

  design = Design(
    prior,
    posteriors.acting_by_prior(posteriors.ranked(samples=samples)),
    Value(lambda key: {}, q, q, lambda design: None),
    temperatures.fixed(0.0),
  )
  step = prior.step(design)
  nothing, obs = jnp.zeros(1), jnp.zeros((1, 1))
  batch = Transition(obs, nothing, nothing, nothing, obs, nothing, {})
  params = dict(prior.init(jax.random.key(0)))
  if free:
    params["actor_bounds"] = {part: jnp.float32(-100.0) for part in ("mean", "covariance")}  # prices of 0

  def iterate(carry: Any, key: jax.Array) -> Any:
    params, state = carry
    drawn = design.posterior.particles(design, params, batch, key)
    shared = batch._replace(extras={"posterior": drawn})

    def inner(carry: Any, key: jax.Array) -> Any:
      params, state, metrics = step.step(*carry, shared, key)
      return (params, state), metrics

    old = params["actor"]
    (params, state), metrics = jax.lax.scan(inner, (params, state), jax.random.split(key, INNER))
    policy = head.distribution(old)
    used = {name: metrics[f"{name}_multiplier_budget_used"][-1] for name in ("mean", "covariance")}
    return (params, state), (bandit.cost(policy.mean()), jnp.exp(jnp.mean(jnp.log(policy.stddev()))), used)

  keys = jax.random.split(jax.random.key(seed), iterations)
  _, (cost, std, used) = jax.lax.scan(iterate, (params, step.init(params)), keys)
  return cost, std, used


def draw(name: str, curves: dict[str, dict[str, np.ndarray]], path: pathlib.Path) -> None:
  from matplotlib.figure import Figure

  figure = Figure(figsize=(9, 3.5), layout="constrained")
  for axes, quantity in zip(figure.subplots(1, 2), ("cost", "deviation"), strict=True):
    for m_step, found in curves.items():
      values = found[quantity]
      (line,) = axes.plot(np.median(values, axis=0), label=m_step)
      axes.fill_between(range(values.shape[1]), values.min(0), values.max(0), color=line.get_color(), alpha=0.2, lw=0)
    axes.set(xlabel="iteration", ylabel={"cost": "f at the mean"}.get(quantity, quantity), yscale="log")
    axes.legend(frameon=False)
  figure.suptitle(name)
  figure.savefig(path, dpi=120)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--iterations", type=int, default=300)
  parser.add_argument("--samples", type=int, default=20)
  parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
  parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
  args = parser.parse_args()
  args.out.mkdir(parents=True, exist_ok=True)
  summary: dict[str, Any] = {}
  for name, bandit in BANDITS.items():
    curves: dict[str, dict[str, np.ndarray]] = {}
    for m_step in M_STEPS:

      def run(seed: jax.Array, bandit: Bandit = bandit, m_step: str = m_step) -> Any:
        return course(bandit, m_step, seed, iterations=args.iterations, samples=args.samples)

      cost, std, used = jax.jit(jax.vmap(run))(jnp.asarray(args.seeds))
      curves[m_step] = {"cost": np.asarray(cost), "deviation": np.asarray(std)}
      summary.setdefault(name, {})[m_step] = {
        "first_cost": float(cost[0, 0]),
        "final_cost": [float(x) for x in cost[:, -1]],
        "first_deviation": float(std[0, 0]),
        "widest_deviation": [float(x) for x in std.max(axis=1)],
        "final_deviation": [float(x) for x in std[:, -1]],
        **({} if m_step == "plain" else {f"{k}_budget_used": float(jnp.mean(x)) for k, x in used.items()}),
      }
    draw(name, curves, args.out / f"{name}.png")
  body = {"command": " ".join(["python -m experiments.claims.trust_region_bandits", *sys.argv[1:]]), **vars(args)}
  body = {**body, "out": str(args.out.name), "bandits": summary, **doctor.device_summary()}
  (args.out / "summary.json").write_text(json.dumps(body, indent=1) + "\n")
  for name, found in summary.items():
    for m_step, values in found.items():
      medians = {k: float(np.median(v)) for k, v in values.items()}
      print(f"{name}, {m_step}: " + ", ".join(f"{k.replace('_', ' ')} {v:.3g}" for k, v in medians.items()))


if __name__ == "__main__":
  main()

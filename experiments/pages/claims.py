"""The page of single statements of the papers, each measured."""

import math
import statistics
from typing import Any

from experiments.pages.read import each, percent, picture, record, shell, table


def page() -> str:
  return "\n".join([
    "# Statements of the papers\n\nEach section measures one statement.\n",
    multi_goal(), bandits(), counterexamples(), iterative(), planning(), correction(), exploration(), empowerment(), moved_reward(), skills(), hierarchy(), options(), transfer(), goals(), memory(), asymmetric(), scale(),
  ])  # fmt: skip


def multi_goal() -> str:
  body = record("multi_goal/summary.json")
  rows = []
  for name, found in body["algorithms"].items():
    least = [min(shares) for shares in found["shares"]]
    rows.append(
      [
        name,
        each(found["goals_reached"]),
        f"{percent(min(least))} to {percent(max(least))}",
        percent(found["share_at_a_goal"]),
      ]
    )
  return "\n".join([
    "## Soft Q-learning keeps several modes\n",
    "`multi_goal` is a plane with four equally good goals. SAC has the same reward scale and temperature; `sql_langevin` is "
    "`sql` with `sampler=\"langevin\"`; `sac` has its tanh-Gaussian, `sac_gaussian` a Gaussian whose actions are clipped, and `sac_flow` a flow.\n",
    table(["algorithm", "goals reached, by seed", "share of the goal a seed reaches least often", "share that ends at a goal"], rows),
    picture("multi_goal/trajectories.png", "trajectories of each"),
    shell(body["command"]),
  ])  # fmt: skip


def bandits() -> str:
  body = record("trust_region_bandits/summary.json")
  rows = []
  for function, forms in body["bandits"].items():
    for form, found in forms.items():
      rows.append([
        function, form, f"{found['first_cost']:.3g}", f"{statistics.median(found['final_cost']):.2g}",
        f"{found['first_deviation']:.2g}", f"{statistics.median(found['widest_deviation']):.2g}", f"{statistics.median(found['final_deviation']):.2g}",
      ])  # fmt: skip
  return "\n".join([
    "## A decoupled trust region does not narrow too early\n",
    "Two bandits; a plain weighted likelihood beside MPO's M-step with its budgets. Medians over seeds.\n",
    table(["function", "M-step", "first cost", "last cost", "first deviation", "widest", "last"], rows),
    picture("trust_region_bandits/sphere.png", "sphere"),
    picture("trust_region_bandits/rosenbrock.png", "Rosenbrock"),
    shell(body["command"]),
  ])  # fmt: skip


def counterexamples() -> str:
  body = record("counterexamples/summary.json")
  names = {"maxent_room": "rooms with many equal actions", "lottery": "a lottery ticket beside a safe arm"}
  rows = [
    [
      names[name],
      f"{body[name]['points']:,}",
      *(percent(body[name]["share_right"][o]) for o in ("reward", "maxent", "pseudo_likelihood", "virel")),
    ]
    for name in names
  ]
  return "\n".join([
    "## Where objectives choose another action than the return does\n",
    "The share of a grid of problems on which each objective's first action pays most.\n",
    table(["problem", "points", "return", "MaxEnt", "pseudo-likelihood", "VIREL"], rows),
    picture("counterexamples/verdicts.png", "verdicts over temperature and gap"),
    shell(body["command"]),
  ])  # fmt: skip


def iterative() -> str:
  body = record("iterative/halfcheetah/summary.json")
  rows = [[name, f"{found['mean']:.2f} ± {found['half_width']:.2f}"] for name, found in body["gap"].items()]
  objective, gaps, trained = body["objective_by_iteration"], body["gap_by_iteration"], body["trained_iterations"]
  return "\n".join([
    "## Iterative inference closes part of the amortisation gap\n",
    f"On {body['env']}, the objective of a state rises from {objective[0]:.1f} at the start to {objective[trained]:.1f} after the {trained} iterations that "
    f"were trained and {objective[-1]:.1f} after {len(objective) - 1}. The gap to the optimum of each state's objective falls from "
    f"{gaps[trained]['mean']:.2f} ± {gaps[trained]['half_width']:.2f} to {gaps[-1]['mean']:.2f} ± {gaps[-1]['half_width']:.2f}. The refitted networks share "
    "one critic.\n",
    table(["network", "gap (95 % over seeds)"], rows),
    picture("iterative/halfcheetah/improvement.png", "objective by iteration"),
    picture("iterative/halfcheetah/gap.png", "amortisation gap"),
    shell(body["command"]),
  ])  # fmt: skip


def planning() -> str:
  body = record("planning.json")
  alone = body["policy"]
  rows = [["none", "", "", each(alone["returns"], ".1f"), "1"]]
  for found in body["plans"]:
    rows.append(
      [
        found["model"],
        str(found["particles"]),
        str(found["horizon"]),
        each(found["returns"], ".1f"),
        f"{found['cost_ratio']:.0f}",
      ]
    )
  return "\n".join([
    "## Planning improves a policy that is not done learning\n",
    f"SAC stopped early on `point_mass`, and frozen. Returns of the mode over 64 episodes of 50 steps, by seed. Cost: one `act` for 64 environments over "
    f"that of the policy alone ({1e3 * alone['seconds']:.2f} ms).\n",
    table(["model", "particles", "horizon", "return, by seed", "cost"], rows),
    shell(body["command"]),
  ])  # fmt: skip


def correction() -> str:
  body = record("model_correction.json")
  rows = []
  for form, found in body["forms"].items():
    gained = found.get("gained")
    rows.append([
      form, percent(statistics.mean(found["gain_errors"])), each(found["worth"], ".2f"), f"{found['exact_worth']:.2f}", each(found["returns"], ".1f"),
      f"{gained['mean']:.2f} ± {gained['half_width']:.2f}" if gained else "",
    ])  # fmt: skip
  return "\n".join([
    "## A model that is wrong costs less where its error is paid for\n",
    "A linear-quadratic problem whose strong actuator is broken, and a model that does not know it. [`mbpo`](../algorithms/mbpo.md) learns from the model alone. Each "
    "form's gain is held to the exact one of its corrected problem; worth is the discounted return of the learned gain in the real problem, whose optimum is "
    f"{body['best_worth']:.2f}. Returns are measured there, by seed; gained is on none, with a 95 % interval.\n",
    table(["correction", "gain off by", "worth, by seed", "exact", "return, by seed", "gained"], rows),
    shell(body["command"]),
  ])  # fmt: skip


def exploration() -> str:
  body = record("exploration.json")
  names = {"corridor": "corridor of 40 cells", "continuous_mountain_car": "MountainCarContinuous-v0, a grid of 20 × 20"}
  rows = []
  for task, found in body["tasks"].items():
    for algorithm, of in found.items():
      seen = [shares[-1] for shares in of["visited"]]
      rows.append([
        names[task], f"{body['steps'][task]:,}", algorithm, f"{of['mean']:.2f} ± {of['half_width']:.2f}", each(seen, ".2f"), each(of["returns"], ".1f"),
      ])  # fmt: skip
  return "\n".join([
    "## Information gain visits what noise does not\n",
    "The share of places that any of 8 environments has ever been in, mean with a 95 % interval and by seed, and the last return. `vime` is the same soft "
    "actor-critic, paid for information gain as well.\n",
    table(["task", "steps", "algorithm", "visited", "by seed", "return, by seed"], rows),
    shell(body["command"]),
  ])  # fmt: skip


def empowerment() -> str:
  body = record("empowerment/summary.json")
  rows = [
    ["mean over states", *(percent(error) for error in body["mean_relative_error"])],
    ["worst state", *(percent(error) for error in body["largest_relative_error"])],
  ]
  low, high = body["exact_range"]
  return "\n".join([
    "## A learned bound finds the capacity of actions\n",
    f"`rewards.empowerment` of {body['steps']} moves beside the exact capacities, which lie between {low:.2f} and {high:.2f} nats: its error relative to them, by seed. "
    "Doorways reach most, the middle of the corridor least.\n",
    table(["", *(f"seed {seed}" for seed in body["seeds"])], rows),
    picture("empowerment/map.png", "empowerment of each cell of a grid, exact and learned"),
    shell(body["command"]),
  ])  # fmt: skip


def moved_reward() -> str:
  body = record("moved_reward.json")
  kinds = list(next(iter(body["returns"].values())))
  rows = [[kind, *(each(found[kind]) for found in body["returns"].values())] for kind in kinds]
  return "\n".join([
    "## A reward outlives the dynamics that it was learned under\n",
    "CartPole: [`airl`](../algorithms/airl.md) with a reward of the state alone and [`gail`](../algorithms/gail.md) learn from eleven episodes as it is. Then the dynamics "
    "change; policies are moved over, and rewards train a new agent. Returns by seed, 500 the most.\n",
    table(["", *body["returns"]], rows),
    shell(body["command"]),
  ])  # fmt: skip


def in_forms(body: dict[str, Any], *about: str) -> list[list[str]]:
  """A row for each form of each run of a record of `experiments.claims.forms`, with what is said of the run."""
  return [
    [
      name, *(f"{found[field]:g}" for field in about), f"{found['env_steps'][-1]:,}", form,
      each([max(row) for row in returns], ".1f"), each([row[-1] for row in returns], ".1f"),
    ]
    for name, found in body["runs"].items()
    for form, returns in found.items()
    if form != "env_steps" and isinstance(returns, list)
  ]  # fmt: skip


def memory() -> str:
  body = record("memory.json")
  return "\n".join([
    "## A policy that sees too little has to remember\n",
    "Brax's inverted pendulum without its velocities, and bsuite's memory chain: the same algorithm with a recurrent unit and with `memory=0`. Returns by seed.\n",
    table(["run", "steps", "", "best", "last"], in_forms(body)),
    shell(body["command"]),
  ])  # fmt: skip


def asymmetric() -> str:
  body = record("asymmetric.json")
  return "\n".join([
    "## A critic that sees more than the policy\n",
    "The policy sees each observation through Gaussian noise of the given standard deviation, new in every step. The critic sees the same, or beside it the observation "
    "without noise. Returns by seed.\n",
    table(["run", "noise", "steps", "the critic sees", "best", "last"], in_forms(body, "noise")),
    shell(body["command"]),
  ])  # fmt: skip


def goals() -> str:
  body = record("goals.json")
  rows = [
    [
      env, f"{found['steps']:,}", f"{found['price']:g}", name, f"{of['area']['mean']:.2f} ± {of['area']['half_width']:.2f}",
      each(of["last"], ".2f"),
    ]
    for env, found in body["envs"].items()
    for name, of in found["algorithms"].items()
  ]  # fmt: skip
  return "\n".join([
    "## A goal that the prior does not see\n",
    "The goal is drawn anew each episode, and the prior of [`iadp`](../algorithms/iadp.md) and [`hdp`](../algorithms/hdp.md) does not see it (\"y hidden\": its first "
    "coordinate is seen). Soft actor-critic pays the same price of a nat for leaving the uniform policy. The area is the mean return over ten evaluations along the run, "
    "over seeds, with a 95 % interval.\n",
    table(["environment", "steps", "price of a nat", "algorithm", "area under the curve", "last return, by seed"], rows),
    shell(body["command"]),
  ])  # fmt: skip


def skills() -> str:
  body, cheetah = record("skills/summary.json"), record("skills/halfcheetah.json")
  rows = [
    row
    for of in (body, cheetah)
    for row in (
      [f"`{of['env']}`", "states whose skill is told rightly", each([100 * x for x in of["accuracy"]], ".1f"), "%"],
      ["", "log q(z \\| s') − log p(z)", each(of["information"], ".2f"), f"nats, at most {math.log(of['skills']):.2f}"],
    )
  ]
  return "\n".join([
    "## Skills come apart without a reward\n",
    f"[`diayn`](../algorithms/diayn.md) with {body['skills']} skills, over fresh episodes of the trained policy, by seed.\n",
    table(["environment", "", "by seed", ""], rows),
    picture("skills/trajectories.png", "places of a point mass, by skill"),
    picture("skills/halfcheetah.png", "metres that the cheetah has run, by skill"),
    shell(body["command"] + "\n" + cheetah["command"]),
  ])  # fmt: skip


def hierarchy() -> str:
  body = record("hierarchy.json")
  rows = [
    [name, each([run[-1] for run in runs], ".1f"), each(body["mean"][name], ".1f")]
    for name, runs in body["returns"].items()
  ]
  return "\n".join([
    "## Acting through a policy that is there already\n",
    "A point mass in one corner that is paid within .2 of a goal in the opposite one, 100 steps an episode. Two algorithms act through policies that never saw that "
    f"reward: a flow that was paid for speed, and [`diayn`](../algorithms/diayn.md)'s skills. {body['steps']:,} steps each, beside those of the lower policy; returns by seed.\n",
    table(["", "last", "mean of all evaluations"], rows),
    shell(body["command"]),
  ])  # fmt: skip


def options() -> str:
  body = record("options.json")
  rows = []
  for task, forms in body["tasks"].items():
    for form, found in forms.items():
      shares = [
        f"{found['last'][name]['mean']:.2f} ± {found['last'][name]['half_width']:.2f}"
        for name in ("usage", "information")
      ]
      rows.append([task, form, *shares, each([row[-1] for row in found["returns"]], ".1f")])
  return "\n".join([
    "## What keeps options apart\n",
    f"[`options`](../algorithms/options.md) with {body['options']} options that go on with probability .9, after "
    + " and ".join(f"{steps:,} steps of {task}" for task, steps in body["steps"].items())
    + ". Usage is the entropy of how often each acts, information I(o; a|s) of options drawn so: both as shares of log "
    f"{body['options']}, mean over {len(body['seeds'])} seeds with a 95 % interval. \"Bound\" is the reverse model at its own weight. The return is of the mode, "
    "which takes the likeliest option.\n",
    table(["task", "form", "usage", "information", "last return, by seed"], rows),
    shell(body["command"]),
  ])  # fmt: skip


def transfer() -> str:
  body = record("transfer.json")
  rows = []
  for env, found in body["envs"].items():
    for name, of in found.items():
      rows.append([env, name, f"{of['area']['mean']:.2f} ± {of['area']['half_width']:.2f}", each(of["last"], ".2f")])
  return "\n".join([
    "## What tasks learn from one another\n",
    "Four tasks at once beside each alone, at as many steps a task (" + ", ".join(f"{env}: {steps:,} in all" for env, steps in body["steps"].items())
    + "), at a price of a nat of " + " and ".join(f"{price:g}" for price in body["prices"].values())
    + ". The area is the mean return over tasks and ten evaluations along the run, over seeds, with a 95 % interval. \"alone\" is the soft actor-critic above it, on "
    "each task by itself.\n",
    table(["tasks", "algorithm", "area under the curve", "last return, by seed"], rows),
    shell(body["command"]),
  ])  # fmt: skip


def scale() -> str:
  body = record("tabular_scale.json")
  rows = [
    [name, f"{found['varl_seconds']:.2f}", f"{found['numpy_seconds']:.2f}", f"{found['ratio_numpy_over_varl']:.1f}"]
    for name, found in body.items()
    if isinstance(found, dict) and "varl_seconds" in found
  ]
  return "\n".join([
    "## Soft value iteration at scale\n",
    f"{body['settings']}; both reach the same values.\n",
    table(["problem", "varl, s", "NumPy, s", "ratio"], rows),
    shell(body["command"]),
  ])  # fmt: skip

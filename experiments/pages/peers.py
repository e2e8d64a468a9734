"""The page of speed and learning beside other implementations."""

import math
import statistics
from typing import Any

from experiments.pages.read import each, lines, machine, record, shell, table

PPO = (
  ("learning-inverted_pendulum", "inverted_pendulum, minibatches and deviation as Brax's"),
  ("learning-inverted_pendulum-rows", "inverted_pendulum, varl's minibatches of rows"),
  ("learning-inverted_pendulum-rows-std1", "inverted_pendulum, varl's minibatches and deviation of 1"),
  ("learning-reacher", "reacher, minibatches and deviation as Brax's"),
  ("learning-reacher-rows", "reacher, varl's minibatches of rows"),
  ("learning-reacher-rows-std1", "reacher, varl's minibatches and deviation of 1"),
)


def page() -> str:
  return "\n".join([
    "# Beside other implementations\n\nSpeed is a ratio within one run: both take turns on one machine. `experiments/peers/brax_trainers.py` says "
    "how Brax's own trainers run on current JAX. Not measured on GPU.\n",
    throughput(), seconds(), ppo(), gail(), pendulum(), environments(), population(), exported(), update_cost(),
  ])  # fmt: skip


def throughput() -> str:
  out = ["## Throughput of SAC\n"]
  for name, cores in (("throughput-halfcheetah", "all cores"), ("throughput-one-core", "one core")):
    body = record(f"{name}.json")
    out.append(f"Halfcheetah, {cores}: {body['settings']}.\n")
    out.append(
      table(
        ["", "varl", "Brax", "ratio"],
        [
          [
            "environment steps per second",
            f"{body['varl_env_steps_per_second']:.0f}",
            f"{body['brax_env_steps_per_second']:.0f}",
            f"{body['ratio_varl_over_brax']:.2f} ({body['ratio_min_max'][0]:.2f} to {body['ratio_min_max'][1]:.2f})",
          ],
          *(
            [
              [
                "peak memory of the process, MiB",
                f"{body['peak_mib_varl']:.0f}",
                f"{body['peak_mib_brax']:.0f}",
                f"{body['peak_mib_varl'] / body['peak_mib_brax']:.2f}",
              ]
            ]
            if cores == "all cores"
            else []
          ),
        ],
      )
    )
    out.append(
      f"One update takes {body['update_ms']:.2f} ms: {ratio(body, 'by_hand')} times the same update written by hand without metrics and observation "
      f"moments, {ratio(body, 'sequence')} times its matrix products one after another, and {ratio(body, 'floor')} times all of them side by side, "
      "as if none waited for another's result.\n"
    )
    out += [shell(body["command"]), f"{machine(body)}.\n"]
  return "\n".join(out)


def ratio(body: dict[str, Any], name: str) -> str:
  low, high = body[f"update_over_{name}_quartiles"]
  return f"{body[f'update_over_{name}']:.2f} (quartiles {low:.2f} to {high:.2f})"


def first_reached(row: dict[str, Any]) -> float:
  """Seconds at the first evaluation at or above the target."""
  return float(next(e["seconds"] for e in row["evaluations"] if e["return"] >= row["target"]))


def times() -> dict[str, dict[str, list[float]]]:
  """Seconds by what is counted and peer, in the order of seeds."""
  rows = sorted(lines("time-to-return-inverted_pendulum.jsonl"), key=lambda row: row["seed"])
  found: dict[str, dict[str, list[float]]] = {"first": {}, "held": {}}
  for row in rows:
    found["first"].setdefault(row["peer"], []).append(first_reached(row))
    found["held"].setdefault(row["peer"], []).append(float(row["seconds"]))
  return found


def median_ratio(pair: dict[str, list[float]]) -> float:
  return statistics.median(a / b for a, b in zip(pair["varl"], pair["brax-sac"], strict=True))


def seconds() -> str:
  found, row = times(), lines("time-to-return-inverted_pendulum.jsonl")[0]
  names = {"first": f"first evaluation at ≥ {row['target']:g}", "held": f"held for {row['hold']} evaluations"}
  body = [
    [
      names[kind],
      ", ".join(f"{x:.1f}" for x in pair["varl"]),
      ", ".join(f"{x:.1f}" for x in pair["brax-sac"]),
      f"{median_ratio(pair):.2f}",
    ]
    for kind, pair in found.items()
  ]
  return "\n".join([
    f"## Seconds to a return on {row['env']}\n",
    "From the start of the process, nothing compiled before, by seed.\n",
    table(["seconds", "varl", "Brax", "ratio (median of pairs)"], body),
    shell("python -m experiments.peers.time_to_return --peer varl --hold 2 --seed 0\npython -m experiments.peers.time_to_return --peer brax-sac --hold 2 --seed 0"),
  ])  # fmt: skip


def ppo() -> str:
  body = []
  for name, what in PPO:
    found = record(f"ppo_peer/{name}.json")
    mean = {peer: statistics.mean(areas) for peer, areas in found["areas"].items()}
    last = {peer: f"{min(values):.0f} to {max(values):.0f}" for peer, values in found["final_returns"].items()}
    low, high = found["interval"]
    body.append([
      what, str(len(found["seeds"])), f"{mean['varl']:.1f}", f"{mean['brax']:.1f}", f"{found['ratio_varl_over_brax']:.2f} ({low:.2f} to {high:.2f})",
      last["varl"], last["brax"],
    ])  # fmt: skip
  speed = []
  for name, devices in (("throughput-halfcheetah", 1), ("throughput-halfcheetah-devices2", 2)):
    found = record(f"ppo_peer/{name}.json")
    by = found["ratio_by_process"]
    speed.append([
      str(devices), f"{found['varl_env_steps_per_second']:.0f}", f"{found['brax_env_steps_per_second']:.0f}",
      f"{found['ratio_varl_over_brax']:.2f} ({min(by):.2f} to {max(by):.2f}, {len(by)} processes)",
    ])  # fmt: skip
  commands = [record(f"ppo_peer/{name}.json")["command"] for name, _ in PPO]
  return "\n".join([
    "## PPO\n",
    "The mean return over the run above an untrained policy's, mean over seeds; the ratio with its 95 % interval over seeds.\n",
    table(["task", "seeds", "varl", "Brax", "ratio", "last returns, varl", "last returns, Brax"], body),
    "Environment steps per second on halfcheetah:\n",
    table(["devices", "varl", "Brax", "ratio"], speed),
    shell("\n".join([*commands, *(record(f"ppo_peer/{n}.json")["command"] for n in ("throughput-halfcheetah", "throughput-halfcheetah-devices2"))])),
  ])  # fmt: skip


def gail() -> str:
  body = record("gail_peer.json")
  rows, base = [], body["runs"]["imitation"]
  for name, runs in body["runs"].items():
    ends = [run["evaluations"][-1] for run in runs]
    pairs = [other["evaluations"][-1]["seconds"] / end["seconds"] for other, end in zip(base, ends, strict=True)]
    rows.append([
      name, each([end["seconds"] for end in ends], ".1f"), each([run.get("compiled", 0.0) for run in runs], ".1f"),
      each([end["env_steps"] for end in ends]), each([end["return"] for end in ends]), f"{statistics.median(pairs):.1f}",
    ])  # fmt: skip
  return "\n".join([
    "## Seconds to .9 of the expert with GAIL on CartPole\n",
    f"Beside the GAIL of `{body['peer']}` (PyTorch), at the same demonstrations, rollouts, minibatches and networks; one core each; by seed. The ratio is of the peer's "
    "seconds to a run's, the median of pairs. Seconds are of training, without evaluations and, for varl, without compiling, which comes beside them.\n",
    table(["", "seconds", "compiling", "steps", "last return", "ratio"], rows),
    shell(body["command"]),
    f"{machine(body)}.\n",
  ])  # fmt: skip


def pendulum() -> str:
  body = record("pendulum_peers.json")
  rows = [
    [
      name, each([run["steps_per_second"] for run in runs]), each([run["return"] for run in runs]),
      each([run.get("compiled", math.nan) for run in runs], ".1f") if "compiled" in runs[0] else "", runs[0]["jax"],
    ]
    for name, runs in body["runs"].items()
  ]  # fmt: skip
  pairs = "; ".join(
    f"{name} {found['median']:.2f} ({found['min_max'][0]:.2f} to {found['min_max'][1]:.2f})"
    for name, found in body["ratios"].items()
  )
  peers = " and ".join(f"`{wanted[0]}`" for wanted in body["peers"].values())
  return "\n".join([
    "## Pendulum-v1 beside rejax and sbx\n",
    f"SAC and PPO beside {peers}, at equal settings, one core each, by seed: steps a second of training, compiled before it, and the mean return of {body['episodes']} sampled episodes at "
    "the end, the same starts for all seeds of an entry and others for another entry, so that returns of two entries differ by their starts, too. varl's environment is gymnax's, or where it says so Gymnasium's on the host, which is what sbx has.\n",
    table(["", "steps a second", "return", "compiling, s", "JAX"], rows),
    f"Ratios of steps a second, medians of pairs: {pairs}.\n",
    shell(body["command"]),
    f"{machine(body)}.\n",
  ])  # fmt: skip


def environments() -> str:
  body = record("environments-inverted_pendulum.json")
  rows = []
  for row in body["rows"]:
    cells = [f"{row['num_envs']:,}"]
    for kind in ("stepping", "training"):
      low, high = row[kind]["ratio_min_max"]
      cells += [
        f"{row[kind]['varl']:,.0f}",
        f"{row[kind]['brax']:,.0f}",
        f"{row[kind]['ratio']:.2f} ({low:.2f} to {high:.2f})",
      ]
    rows.append(cells)
  stepping, training = body["knee"]["stepping"], body["knee"]["training"]
  return "\n".join([
    "## Steps a second against the number of environments\n",
    f"`{body['env']}`, stepped alone under random actions, and trained by PPO with Brax's networks and minibatches. On this machine 80 % of the most steps a second are "
    f"reached with {stepping['varl']:,} environments when stepped alone (Brax {stepping['brax']:,}), and with {training['varl']:,} when trained (Brax {training['brax']:,}).\n",
    table(["environments", "stepped, varl", "Brax", "ratio", "trained, varl", "Brax", "ratio"], rows),
    shell(body["command"]),
    f"{machine(body)}.\n",
  ])  # fmt: skip


def population() -> str:
  body = record("population.json")
  names = {"together": "`varl.population`", "alone": "one after another in one process", "vmap": "one `vmap` over all"}
  rows = [[names[form], f"{each['whole']:.1f}", f"{each['training']:.1f}"] for form, each in body["seconds"].items()]
  ratio, apart = body["ratio_alone_over_together"], body["largest_difference"]
  return "\n".join([
    "## Seeds together\n",
    f"{body['seeds']} seeds of SAC on `{body['env']}`, {body['settings']['num_timesteps']:,} steps each: seconds of the whole process, and of training alone. One after "
    f"another takes {ratio['whole']:.2f} times as long as together, and its training {ratio['training']:.2f} times. A seed's returns together and alone differ by "
    f"{apart['first evaluation']:.2g} at most at the first evaluation after training began, and by {apart['last']:.2g} at the last.\n",
    table(["", "whole, s", "training, s"], rows),
    shell(body["command"]),
    f"{machine(body)}.\n",
  ])  # fmt: skip


def exported() -> str:
  body = record("export.json")
  rows = [
    [
      name,
      f"{1e6 * each['seconds']:.0f}",
      f"{each['largest_difference']:.1e}" if each["largest_difference"] is not None else "",
    ]
    for name, each in body["forms"].items()
  ]
  return "\n".join([
    "## One action of an exported policy\n",
    f"SAC's policy of halfcheetah's sizes with layers of {' and '.join(map(str, body['hidden']))}, untrained: median time of one action of one observation, and the "
    "largest difference from the live policy over 1,000 observations. Each form runs in a process of its own.\n",
    table(["form", "µs", "difference"], rows),
    shell(body["command"]),
    f"{machine(body)}.\n",
  ])  # fmt: skip


def update_cost() -> str:
  body = record("update_cost.json")
  rows = [
    [
      name,
      row["relative_to"],
      f"{row['milliseconds']:.2f}",
      f"{row['time_ratio']:.2f}",
      f"{row['multiplication_ratio']:.2f}",
    ]
    for name, row in body["rows"].items()
  ]
  width = " and ".join(map(str, body["hidden"]))
  return "\n".join([
    "## Cost of one update\n",
    f"At halfcheetah's sizes, batch {body['batch_size']}, layers of {width}.\n",
    table(["algorithm", "relative to", "ms", "time", "multiplications"], rows),
    shell(body["command"]),
  ])  # fmt: skip

"""What planning adds to a policy that is not done learning: its return by itself, and under the planner.

    python -m experiments.claims.planning           # 3 seeds, about 20 minutes on one core
    python -m experiments.claims.planning --smoke   # one seed, two plans; prints, and writes nothing

SAC of a fixed temperature is stopped early on `point_mass` (episodes of 50 steps; a model learns beside it from the
same rows), and frozen. The same policy, critic and temperature are then judged by the policy's mode and by that of
`posteriors.smc` with each number of particles and each horizon, in the known model and in the learned one, over the
same 64 episodes. The cost is the median of one jitted `act` for 64 environments over that of the policy alone, measured
in one process. Writes `experiments/results/planning.json`.
"""

import json
import statistics
import time
from typing import Any

import jax

import varl
from experiments.claims import script
from varl import components, models
from varl.agents import smcp
from varl.envs import spec
from varl.envs.toys import PointMass
from varl.loop.evaluate import evaluator

PARTICLES, HORIZONS = (16, 64, 256), (1, 4, 8)
EPISODES, STEPS = 64, 50
SETTINGS = varl.Settings(
  num_timesteps=2_400, num_envs=8, episode_length=STEPS, batch_size=128, updates_per_env_step=0.5, warm_up=800,
  replay_capacity=10_000, eval_every=2_400, eval_episodes=8,
)  # fmt: skip
ENV = PointMass()


def config(particles: int, horizon: int) -> smcp.Config:
  return smcp.Config(
    hidden=(64, 64), model_hidden=(64, 64), learning_rate=1e-3, model_ends="never", members=3, value_samples=4,
    adapt_temperature=False, initial_temperature=0.05, particles=particles, horizon=horizon,
  )  # fmt: skip


def timed(act: Any, params: Any, obs: jax.Array) -> float:
  """Median seconds of a call, compiled before."""
  act = jax.jit(act)
  seconds = []
  for i in range(11):
    started = time.perf_counter()
    jax.block_until_ready(act(params, (), obs, jax.random.key(i))[0])
    seconds.append(time.perf_counter() - started)
  return statistics.median(seconds[1:])


def main() -> None:
  asked = script.ask(__doc__, range(3))
  plans = [(16, 1), (16, 4)] if asked.smoke else [(n, h) for n in PARTICLES for h in HORIZONS]
  own, head = spec(ENV), components.policy_head(spec(ENV), config(1, 1))
  prior, policy, value, temperature = components.soft(own, config(1, 1))
  learned, known = components.model(own, config(1, 1)), models.known(ENV.outcome, execute=head.execute)
  design = varl.types.Design(prior, policy, value, temperature, model=learned)
  alone = varl.agent(design, own, head)
  train = jax.jit(varl.make_trainer(ENV, alone, SETTINGS).run)
  weak = [train(jax.random.key(seed))[0].agent.params for seed in asked.seeds]
  obs = jax.random.normal(jax.random.key(0), (EPISODES, own.observation_size))

  def returns(agent: Any) -> list[float]:
    judge = jax.jit(evaluator(ENV, agent, episodes=EPISODES, episode_length=STEPS))
    return [float(judge(params, jax.random.key(7))["eval/episode_reward"]) for params in weak]

  seconds = timed(alone.act, weak[0], obs)
  body: dict[str, Any] = {
    "policy": {"returns": returns(alone), "seconds": seconds},
    "plans": [],
  }
  print(json.dumps(body["policy"]), flush=True)
  for name, model in {"known": known, "learned": learned}.items():
    for particles, horizon in plans:
      planner = components.planning(own, config(particles, horizon), policy)
      agent = varl.agent(design._replace(posterior=planner, model=model), own, head)
      found = {
        "model": name,
        "particles": particles,
        "horizon": horizon,
        "returns": returns(agent),
        "cost_ratio": timed(agent.act, weak[0], obs) / seconds,
      }
      body["plans"].append(found)
      print(json.dumps(found), flush=True)
  if asked.recorded:
    script.write("planning", body)


if __name__ == "__main__":
  main()

"""A model that is wrong on purpose: learning from it with and without the price of its error.

    python -m experiments.claims.model_correction           # 5 seeds, about 10 minutes on one core
    python -m experiments.claims.model_correction --smoke   # one seed and few updates; prints, and writes nothing

A linear-quadratic problem with a weak actuator and a strong one, which is broken: it does nothing. The model knows
everything but that. `mbpo` learns from its rollouts alone: with the environment's reward, with log p/q of each imagined
step added (`correction="sample"`), weighed by the temperature as the bound has it or by a larger number, or less KL(q ‖
p) (`correction="divergence"`). The divergence is a quadratic form of the action, w ‖(B_q - B_p) a‖²/(2σ²), so that each
form's exact gain is that of the model's problem with a dearer actuator, and what it is worth in the real problem is
known, too. Two figures a seed: the mode's gain, fitted to its actions at states that were met, against the exact one;
and the return of the mode in the real problem, over 512 episodes of 33 steps. What each form gains on none has a 95 %
interval over seeds (Student's t). Writes `experiments/results/model_correction.json`.
"""

import json
from typing import Any

import jax
import numpy as np

import varl
from experiments.claims import script
from experiments.claims.iterative_inference import interval
from varl import components, models
from varl.agents import mbpo
from varl.envs import spec
from varl.envs.toys import LinearQuadratic
from varl.exact import linear_quadratic
from varl.loop.evaluate import evaluator

ALPHA, GAMMA, NOISE, STEPS = 0.1, 0.9, 0.2, 33
FORMS: dict[str, tuple[str, float]] = {
  "none": ("none", 0.0),
  "sample, w = α": ("sample", ALPHA),
  "divergence, w = α": ("divergence", ALPHA),
  "sample, w = 10 α": ("sample", 10 * ALPHA),
}
"""(form, weight in reward per nat)."""
UPDATES = 8_000


def problem(working: float, R: Any = ((0.1, 0.0), (0.0, 0.1))) -> LinearQuadratic:
  """The strong actuator works to this degree."""
  A, B = ((0.9, 0.3), (0.0, 0.8)), ((0.0, 0.0), (0.3, 0.6 * working))
  return LinearQuadratic(A, B, ((1.0, 0.0), (0.0, 0.1)), R, noise=NOISE)


REAL, BELIEVED = problem(0.0), problem(1.0)


def exact(weight: float) -> np.ndarray:
  """The gain of the corrected problem `[d, n]`."""
  error = np.asarray(BELIEVED.B - REAL.B, np.float64)
  dearer = np.asarray(BELIEVED.R, np.float64) + weight * error.T @ error / (2 * NOISE**2)
  return np.asarray(linear_quadratic.soft(problem(1.0, dearer).problem(GAMMA), temperature=ALPHA).gain, np.float64)


def worth(gain: np.ndarray) -> float:
  """The discounted return of a = -K s in the real problem, from s ~ N(0, I)."""
  found = linear_quadratic.evaluate(REAL.problem(GAMMA), gain, np.zeros((2, 2)))
  return -float(np.trace(found.P) + found.constant)


def learn(form: str, seeds: list[int], updates: int) -> dict[str, Any]:
  correction, weight = FORMS[form]
  config = mbpo.Config(
    hidden=(64, 64), learning_rate=3e-3, decay_updates=updates, tau=0.02, gamma=GAMMA, critics=1,
    policy="full_gaussian", adapt_temperature=False, initial_temperature=ALPHA, normalize_observations=False,
    rollout=2, real_share=0.0, correction=correction, correction_weight=weight or None, correction_noise=0.0,
    correction_hidden=(64,), max_grad_norm=1.0,
  )  # fmt: skip
  own, head = spec(REAL), components.policy_head(spec(REAL), config)
  model = models.known(BELIEVED.outcome, execute=head.execute, draws=4)
  agent = varl.agent(mbpo.design(own, config, model=model), own, head, normalize_observations=False)
  steps = 4 * updates + 1_600
  settings = varl.Settings(
    num_timesteps=steps, num_envs=8, episode_length=STEPS, batch_size=128, updates_per_env_step=0.25, warm_up=1_600,
    replay_capacity=steps // 4, eval_every=steps, eval_episodes=1,
  )  # fmt: skip
  run = jax.jit(varl.make_trainer(REAL, agent, settings).run)
  judge = jax.jit(evaluator(REAL, agent, episodes=512, episode_length=STEPS))
  wanted = exact(weight)
  found: dict[str, Any] = {"exact_worth": worth(wanted), "returns": [], "gain_errors": [], "worth": [], "gains": []}
  for seed in seeds:
    state, _ = run(jax.random.key(seed))
    params = state.agent.params
    met = state.loop.replay.data.obs[:4_096]
    mode = np.asarray(agent.mode(params, (), met, jax.random.key(0))[0], np.float64)
    gain = -np.linalg.lstsq(np.asarray(met, np.float64), mode, rcond=None)[0].T
    found["gains"].append(gain.tolist())
    found["gain_errors"].append(float(np.linalg.norm(gain - wanted) / np.linalg.norm(wanted)))
    found["worth"].append(worth(gain))
    found["returns"].append(float(judge(params, jax.random.key(1_000))["eval/episode_reward"]))
    print(
      json.dumps({"form": form, "seed": seed} | {k: v[-1] for k, v in found.items() if isinstance(v, list)}), flush=True
    )
  return found


def main() -> None:
  asked = script.ask(__doc__, range(5))
  updates = 2_000 if asked.smoke else UPDATES
  best = np.asarray(linear_quadratic.hard(REAL.problem(GAMMA)).gain, np.float64)
  body: dict[str, Any] = {"best_worth": worth(best)}
  body["forms"] = {form: learn(form, asked.seeds, updates) for form in FORMS}
  if not asked.recorded:
    return
  plain = body["forms"]["none"]["returns"]
  for form in list(FORMS)[1:]:
    gained = [a - b for a, b in zip(body["forms"][form]["returns"], plain, strict=True)]
    body["forms"][form]["gained"] = interval(gained)
    print(form, body["forms"][form]["gained"])
  script.write("model_correction", body)


if __name__ == "__main__":
  main()

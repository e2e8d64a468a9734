"""What the experiments count and summarise; what they measure is recorded and not tested."""

import itertools
import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import experts
from experiments.claims import model_correction, script, trust_region_bandits
from experiments.curves import learning_curves
from experiments.peers import ppo, update_cost
from varl.agents import iterative_sac, sac
from varl.exact import linear_quadratic
from varl.run import loggers

# Scripts of claims


@pytest.mark.parametrize(
  ("line", "seeds", "recorded"),
  [([], [0, 1, 2], True), (["--seeds", "0"], [0], False), (["--smoke"], [0], False),
   (["--smoke", "--seeds", "0", "1", "2"], [0, 1, 2], False), (["--seeds", "0", "1", "2"], [0, 1, 2], True)],
)  # fmt: skip
def test_a_record_is_of_all_its_seeds_and_steps(monkeypatch, line, seeds, recorded):
  monkeypatch.setattr("sys.argv", ["a_claim", *line])
  asked = script.ask("what it claims", range(3))
  assert (asked.seeds, asked.smoke, asked.recorded) == (seeds, "--smoke" in line, recorded)


def test_a_record_says_how_it_was_made(monkeypatch, tmp_path):
  monkeypatch.setattr("sys.argv", ["a_claim", "--seeds", "0", "1"])
  monkeypatch.setattr(script, "RESULTS", tmp_path)
  script.write("a_claim", {"runs": [1.0]}, "folder/summary.json")
  body = json.loads((tmp_path / "folder" / "summary.json").read_text())
  assert body["command"] == "python -m experiments.claims.a_claim --seeds 0 1"
  assert body["runs"] == [1.0]
  assert body["versions"]["jax"] == jax.__version__


# Experts


@pytest.mark.parametrize(("mean", "taken"), [(474.0, False), (476.0, True)])
def test_an_expert_below_its_threshold_is_none(monkeypatch, tmp_path, mean, taken):
  shown = types.SimpleNamespace(returns=np.array([mean - 1.0, mean + 1.0]))
  monkeypatch.setattr(experts.varl, "train", lambda algorithm, env, out: algorithm)
  monkeypatch.setattr(experts.varl, "rollout", lambda out, episodes: shown)
  if taken:
    assert experts.trained("cartpole", tmp_path, 2) == ("ppo", shown)
    return
  with pytest.raises(RuntimeError, match="ppo on cartpole has a return of 474, below an expert's 475"):
    experts.trained("cartpole", tmp_path, 2)


# Multiplications


def test_multiplications_of_nested_loops():
  weight = jnp.ones((3, 5))

  def body(x, _):
    return jax.lax.cond(
      x.sum() > 0, lambda x: x @ weight @ weight.T, lambda x: x @ weight @ weight.T @ jnp.eye(3), x
    ), 0

  run = jax.jit(lambda x: jax.lax.scan(body, x, None, length=7)[0])
  assert update_cost.multiplications(run, jnp.ones((2, 3))) == 7 * 2 * (2 * 3 * 5 + 3 * 3)


def test_multiplications_that_no_result_needs_are_not_counted():
  def two(x):
    return x @ x, x @ x @ x

  assert update_cost.multiplications(lambda x: two(x)[0], jnp.ones((2, 2))) == 8


def test_products_in_a_while_loop_cannot_be_counted():
  with pytest.raises(ValueError, match="while loop cannot be counted"):
    update_cost.multiplications(
      lambda x: jax.lax.while_loop(lambda x: x.sum() < 1, lambda x: x @ x, x), jnp.ones((2, 2))
    )


def passes(config, *, iterative):
  """Multiplications of an update a state, by hand: a backward pass, of weights or of inputs, counts like a forward."""

  def network(inputs, outputs):
    return sum(a * b for a, b in itertools.pairwise((inputs, *config.hidden, outputs)))

  o, d = update_cost.CONTINUOUS.observation_size, update_cost.CONTINUOUS.action_size
  critic = config.critics * network(o + d, 1)
  if not iterative:
    return 6 * critic + 4 * network(o, 2 * d)
  k, m = config.inference_iterations, config.samples
  return (3 + m * (4 * k + 3)) * critic + (5 * k + 1) * network(o + 4 * d, 4 * d)


@pytest.mark.parametrize(
  ("module", "config"),
  [
    (sac, sac.Config(hidden=(64, 64))),
    (iterative_sac, iterative_sac.Config(hidden=(64, 64), inference_iterations=2, samples=4)),
    (iterative_sac, iterative_sac.Config(hidden=(64, 64), inference_iterations=3, samples=1)),
  ],
)
def test_multiplications_of_an_update_are_those_of_its_passes(module, config):
  agent = module.make(update_cost.CONTINUOUS, config)
  state = jax.eval_shape(agent.init, jax.random.key(0))
  batch = update_cost.batch_for(agent, 32, jax.random.key(1))
  counted = update_cost.multiplications(agent.update, state, batch, jax.random.key(2))
  # By hand, first layers count with the gradient of their inputs, of which no more than the action's is taken; traced,
  # a few products count that the compiler finds to be the same as others.
  assert counted == pytest.approx(32 * passes(config, iterative=module is iterative_sac), rel=0.03)


# Learning curves


def recorded(folder, algorithm, rows):
  out = folder / algorithm / "seed0"
  with loggers.MetricsWriter(out, tensorboard=False) as writer:
    for row in rows:
      writer.write(row)
  (folder / algorithm / "summary.json").write_text(json.dumps({"seeds": {"0": {}}}))


def row(steps, value, **more):
  return {"env_steps": steps, "eval/episode_reward": value, "training/walltime": 1.0, "training/sps": 5.0, **more}


def test_a_summary_says_when_the_target_was_met_and_lost():
  rows = [row(0, 1.0, **{"training/compile_time": 3.0}), row(10, 9.0), row(20, 4.0), row(30, 8.0)]
  summary = learning_curves.summarise(rows, 8.0)
  assert summary["steps_to_target"] == 10
  assert summary["evaluations_below_target_afterwards"] == 1
  assert (summary["best_return"], summary["final_return"], summary["env_steps"]) == (9.0, 8.0, 30)
  assert learning_curves.summarise(rows, 10.0)["steps_to_target"] is None
  assert "steps_to_target" not in learning_curves.summarise(rows, None)


KL = learning_curves.PICTURES["kl_used_mean"]


def test_pictures_are_of_the_algorithms_that_have_the_metric(tmp_path, monkeypatch):
  recorded(tmp_path, "a", [row(0, 1.0), row(10, 2.0)])
  recorded(tmp_path, "b", [row(0, 1.0, **{KL: 1.0}), row(10, 3.0, **{KL: 0.5})])
  drawn = {}
  monkeypatch.setattr(learning_curves.plots, "curves", lambda runs, path, **_: drawn.update({path.name: sorted(runs)}))
  learning_curves.draw(tmp_path, "task")
  assert drawn == {"return.png": ["a", "b"], "kl_used_mean.png": ["b"]}


# Peers and bandits


def test_the_area_is_the_mean_return_above_a_floor():
  assert ppo.area([(0, 1.0), (10, 3.0), (30, 3.0)], 1.0) == pytest.approx((10 * 1.0 + 20 * 2.0) / 30)


def test_trainers_are_compared_by_their_mean_areas():
  def run(height):
    return [(0, 0.0), (10, height), (20, height)]

  found = ppo.compare({"varl": [run(4.0), run(8.0)], "brax": [run(3.0), run(3.0)]})
  assert found["untrained_return"] == 0
  assert found["ratio_varl_over_brax"] == pytest.approx(2.0)
  low, high = found["interval"]
  assert low == pytest.approx(4 / 3)
  assert high == pytest.approx(8 / 3)
  assert found["final_returns"]["varl"] == [4.0, 8.0]


@pytest.mark.parametrize("m_step", trust_region_bandits.M_STEPS)
def test_a_plain_fit_narrows_before_it_arrives_and_a_decoupled_one_widens_first(m_step):
  bandit = trust_region_bandits.BANDITS["sphere"]
  cost, std, _ = jax.jit(lambda seed: trust_region_bandits.course(bandit, m_step, seed, iterations=60, samples=20))(0)
  if m_step == "plain":
    assert std[-1] < 0.02
    assert cost[-1] > 0.3 * cost[0]
  else:
    assert 1.05 * std[0] < std.max()
    assert cost[-1] < 0.01 * cost[0]


# A model that is wrong on purpose


def test_the_exact_gain_of_a_corrected_problem_uses_the_broken_actuator_less():
  gains = {weight: model_correction.exact(weight) for weight in (0.0, 0.1, 1.0)}
  strong = [abs(gain[1, 0]) for gain in gains.values()]
  assert strong[0] > 2 * strong[1] > 4 * strong[2]
  worths = [model_correction.worth(gain) for gain in gains.values()]
  best = linear_quadratic.hard(model_correction.REAL.problem(model_correction.GAMMA)).gain
  assert worths[0] < worths[1] < worths[2] < model_correction.worth(np.asarray(best, np.float64))
  # A quadratic price by quadrature: E_q[log q - log p] at one state and action.
  obs, action, n = jnp.array([0.3, -0.2]), jnp.array([0.5, 0.7]), 200_000
  keys = jax.random.split(jax.random.key(0), n)
  drawn = jax.vmap(lambda key: model_correction.BELIEVED.outcome(obs, action, key)[0])(keys)
  means = [env.A @ obs + env.B @ action for env in (model_correction.REAL, model_correction.BELIEVED)]
  p, q = (-jnp.sum((drawn - mean) ** 2, axis=1) / (2 * model_correction.NOISE**2) for mean in means)
  price = 0.5 * float(np.sum((means[0] - means[1]) ** 2)) / model_correction.NOISE**2
  np.testing.assert_allclose(np.mean(q - p), price, rtol=0.02)

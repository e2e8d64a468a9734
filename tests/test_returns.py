"""Returns against NumPy loops over episodes that end anywhere, in either way or both at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from varl import returns

GAMMA = 0.9


def close(got, wanted, atol=1e-5):
  np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=atol)


def sequence(seed, steps=40, batch=(), ends=0.15):
  """Rows of a rollout in episodes; V(s_{t+1}) is the next row's value unless an episode ended there."""
  rng = np.random.default_rng(seed)
  shape = (steps, *batch)
  terminated, truncated = rng.random(shape) < ends, rng.random(shape) < ends
  if ends:
    terminated[7] = truncated[7] = True  # both at once
  value, after = rng.normal(size=shape), rng.normal(size=shape)
  goes_on = ~(terminated | truncated)
  goes_on[-1] = False
  next_value = np.where(goes_on, np.roll(value, -1, axis=0), after)
  rows = {
    "reward": rng.normal(size=shape),
    "discount": 1.0 - terminated,
    "truncated": truncated.astype(float),
    "value": value,
    "next_value": next_value,
    "log_rho": rng.normal(size=shape),
  }
  return rows, goes_on


def arrays(rows, *names):
  return [jnp.asarray(rows[name], jnp.float32) for name in names]


TARGET = ("reward", "discount", "truncated", "next_value")
ADVANTAGE = ("reward", "discount", "truncated", "value", "next_value")
TRACE = (*ADVANTAGE, "log_rho")


def loop_lambda(rows, goes_on, lam):
  out = np.zeros(len(goes_on))
  for t in reversed(range(len(out))):
    tail = (1 - lam) * rows["next_value"][t] + lam * out[t + 1] if goes_on[t] else rows["next_value"][t]
    out[t] = rows["reward"][t] + GAMMA * rows["discount"][t] * tail
  return out


def loop_n_step(rows, goes_on, n):
  out = np.zeros(len(goes_on))
  for start in range(len(out)):
    scale, t = 1.0, start
    while True:
      out[start] += scale * rows["reward"][t]
      scale *= GAMMA * rows["discount"][t]
      if t - start + 1 == n or not goes_on[t]:
        out[start] += scale * rows["next_value"][t]
        break
      t += 1
  return out


def loop_retrace(rows, goes_on, lam):
  """The sum of Eq. 3: Q + Σ_k γ^k (Π c) δ_k, from every start."""
  trace = lam * np.minimum(1.0, np.exp(rows["log_rho"]))
  out = np.array(rows["value"])
  for start in range(len(out)):
    scale, t = 1.0, start
    while True:
      mask = rows["discount"][t]
      out[start] += scale * (rows["reward"][t] + GAMMA * mask * rows["next_value"][t] - rows["value"][t])
      if not goes_on[t]:
        break
      t += 1
      scale *= GAMMA * trace[t]
  return out


def loop_vtrace(rows, goes_on, lam, clip_rho, clip_c):
  ratio = np.exp(rows["log_rho"])
  rho, trace = np.minimum(clip_rho, ratio), lam * np.minimum(clip_c, ratio)
  value, advantage = np.array(rows["value"]), np.zeros(len(ratio))
  for start in range(len(value)):
    scale, t = 1.0, start
    while True:
      delta = rows["reward"][t] + GAMMA * rows["discount"][t] * rows["next_value"][t] - rows["value"][t]
      value[start] += scale * rho[t] * delta
      if not goes_on[t]:
        break
      scale *= GAMMA * trace[t]
      t += 1
  for t in range(len(value)):
    after = value[t + 1] if goes_on[t] else rows["next_value"][t]
    advantage[t] = rho[t] * (rows["reward"][t] + GAMMA * rows["discount"][t] * after - rows["value"][t])
  return value, advantage


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("lam", [0.0, 0.3, 0.95, 1.0])
def test_the_lambda_return_and_gae(seed, lam):
  rows, goes_on = sequence(seed)
  wanted = loop_lambda(rows, goes_on, lam)
  close(returns.lambda_return(*arrays(rows, *TARGET), gamma=GAMMA, lam=lam), wanted)
  got = returns.gae(*arrays(rows, *ADVANTAGE), gamma=GAMMA, lam=lam)
  close(got, wanted - rows["value"])


@pytest.mark.parametrize("n", [1, 2, 5, 40, 100])
def test_n_step_returns(n):
  for seed in range(3):
    rows, goes_on = sequence(seed)
    got = returns.n_step_return(*arrays(rows, *TARGET), gamma=GAMMA, n=n)
    close(got, loop_n_step(rows, goes_on, n))


@pytest.mark.parametrize("lam", [0.0, 0.8, 1.0])
def test_retrace_is_the_sum_over_what_follows(lam):
  for seed in range(3):
    rows, goes_on = sequence(seed)
    got = returns.retrace(*arrays(rows, *TRACE), gamma=GAMMA, lam=lam)
    close(got, loop_retrace(rows, goes_on, lam))


@pytest.mark.parametrize(("lam", "clip_rho", "clip_c"), [(1.0, 1.0, 1.0), (0.9, 2.0, 0.5), (0.0, np.inf, 1.0)])
def test_vtrace_is_the_sum_over_what_follows(lam, clip_rho, clip_c):
  for seed in range(3):
    rows, goes_on = sequence(seed)
    got = returns.vtrace(*arrays(rows, *TRACE), gamma=GAMMA, lam=lam, clip_rho=clip_rho, clip_c=clip_c)
    value, advantage = loop_vtrace(rows, goes_on, lam, clip_rho, clip_c)
    close(got.value, value)
    close(got.advantage, advantage)


def test_lambda_1_is_monte_carlo_and_lambda_0_one_step():
  rows, _ = sequence(0, ends=0.0)
  rows["discount"][-1] = 0.0  # one whole episode
  wanted = [np.sum(rows["reward"][t:] * GAMMA ** np.arange(40 - t)) for t in range(40)]
  got = returns.lambda_return(*arrays(rows, *TARGET), gamma=GAMMA, lam=1.0)
  close(got, wanted)
  got = returns.lambda_return(*arrays(rows, *TARGET), gamma=GAMMA, lam=0.0)
  close(got, rows["reward"] + GAMMA * rows["discount"] * rows["next_value"])


@pytest.mark.parametrize("lam", [0.0, 0.7, 1.0])
def test_on_policy_retrace_and_vtrace_are_the_lambda_return(lam):
  """With π = μ, and with V of the successor for E_π Q: there Q(s, a) stands where V(s) does."""
  rows, goes_on = sequence(1)
  rows["log_rho"] = np.zeros(40)
  wanted = loop_lambda(rows, goes_on, lam)
  close(returns.retrace(*arrays(rows, *TRACE), gamma=GAMMA, lam=lam), wanted)
  close(returns.vtrace(*arrays(rows, *TRACE), gamma=GAMMA, lam=lam).value, wanted)


def test_a_row_of_another_episode_is_never_seen():
  rows, _ = sequence(2, steps=20, ends=0.0)
  rows["truncated"][9] = 1.0
  changed = {name: np.where(np.arange(20) > 9, x + 5.0, x) for name, x in rows.items() if name != "truncated"}
  changed["truncated"], changed["discount"] = rows["truncated"], rows["discount"]
  for function, names in (
    (lambda *x: returns.lambda_return(*x, gamma=GAMMA, lam=0.9), TARGET),
    (lambda *x: returns.gae(*x, gamma=GAMMA, lam=0.9), ADVANTAGE),
    (lambda *x: returns.n_step_return(*x, gamma=GAMMA, n=5), TARGET),
    (lambda *x: returns.retrace(*x, gamma=GAMMA), TRACE),
    (lambda *x: returns.vtrace(*x, gamma=GAMMA).value, TRACE),
    (lambda *x: returns.vtrace(*x, gamma=GAMMA).advantage, TRACE),
  ):
    before, after = function(*arrays(rows, *names)), function(*arrays(changed, *names))
    np.testing.assert_array_equal(before[:10], after[:10])
    assert (before[10:] != after[10:]).all()


def test_what_a_row_does_not_use_may_be_no_number():
  rows, _ = sequence(0, steps=12, ends=0.0)
  rows["discount"][5], rows["next_value"][5] = 0.0, np.nan  # a terminal state
  later = np.arange(12) > 5
  for name in ("reward", "value", "next_value", "log_rho"):
    rows[name] = np.where(later, np.nan, rows[name])
  for got in (
    returns.lambda_return(*arrays(rows, *TARGET), gamma=GAMMA, lam=0.9),
    returns.gae(*arrays(rows, *ADVANTAGE), gamma=GAMMA, lam=0.9),
    returns.n_step_return(*arrays(rows, *TARGET), gamma=GAMMA, n=4),
    returns.retrace(*arrays(rows, *TRACE), gamma=GAMMA),
    returns.vtrace(*arrays(rows, *TRACE), gamma=GAMMA).value,
    returns.vtrace(*arrays(rows, *TRACE), gamma=GAMMA).advantage,
  ):
    assert np.isfinite(got[:6]).all()


def test_retrace_does_not_overflow_where_the_policy_has_moved_far():
  rows, _ = sequence(3)
  rows["log_rho"] = np.where(np.arange(40) % 2, 500.0, -500.0)
  assert np.isfinite(returns.retrace(*arrays(rows, *TRACE), gamma=GAMMA)).all()
  assert np.isfinite(returns.vtrace(*arrays(rows, *TRACE), gamma=GAMMA).advantage).all()


def test_long_sequences_batches_and_vmap():
  rows, goes_on = sequence(4, steps=10_000, batch=(3,), ends=0.01)
  got = jax.jit(lambda *x: returns.lambda_return(*x, gamma=GAMMA, lam=0.95))(*arrays(rows, *TARGET))
  for i in range(3):
    one = {name: x[:, i] for name, x in rows.items()}
    close(got[:, i], loop_lambda(one, goes_on[:, i], 0.95), atol=1e-4)
  mapped = jax.vmap(lambda *x: returns.gae(*x, gamma=GAMMA, lam=0.95), 1, 1)(*arrays(rows, *ADVANTAGE))
  close(mapped + rows["value"], got, atol=1e-4)
  grid = jax.vmap(lambda lam: returns.lambda_return(*arrays(rows, *TARGET), gamma=GAMMA, lam=lam))(jnp.array([0, 0.95]))
  close(grid[1], got, atol=1e-4)


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda x: returns.lambda_return(x, x, x, x[:2], gamma=0.9, lam=0.5), r"next_value has the reward's shape \(3,\)"),
    (lambda x: returns.gae(x, x, x, x, x, gamma=0.9, lam=1.5), r"lam lies in \[0, 1\], got 1.5"),
    (lambda x: returns.n_step_return(x, x, x, x, gamma=0.9, n=0), "n is a whole number >= 1, got 0"),
    (lambda x: returns.retrace(x[:0], x[:0], x[:0], x[:0], x[:0], x[:0], gamma=0.9), "at least one row"),
    (lambda x: returns.vtrace(x, x, x, x, x, x[0], gamma=0.9), "log_rho"),
  ],
)
def test_bad_input(call, message):
  with pytest.raises(ValueError, match=message):
    call(jnp.ones(3))

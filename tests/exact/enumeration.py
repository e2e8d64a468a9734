"""Random finite processes, and what all trajectories, plain NumPy and linear programming say of them."""

from typing import NamedTuple

import jax
import numpy as np
import scipy.optimize

from varl.exact import tabular

MDPS = 25


class Case(NamedTuple):
  """25 random processes of one shape, with a prior, a policy and a temperature each, in float64 NumPy."""

  m: tabular.MDP
  horizon: int
  temperature: np.ndarray
  log_prior: np.ndarray
  log_policy: np.ndarray


SHAPES = {  # states, actions, horizon, and what else
  "dense": (4, 3, 4, {}),
  "terminal": (4, 2, 4, {"terminal": 1}),
  "sparse": (3, 3, 3, {"branching": 2, "terminal": 1}),
  "deterministic": (4, 3, 4, {"branching": 1}),
}


def numpy_tree(tree):
  return jax.tree.map(np.asarray, tree)


def cast(tree, dtype):
  return jax.tree.map(lambda x: x.astype(dtype) if np.issubdtype(x.dtype, np.floating) else x, tree)


def processes(seed, n, states, actions, *, discount=0.9, branching=None, terminal=0):
  """n random processes, float64 NumPy. Rows of terminal states are random, too: nothing may look at them."""
  rng = np.random.default_rng(seed)
  shape = (n, states, actions, branching or states)
  return tabular.MDP(
    transition=rng.dirichlet(np.ones(shape[-1]), shape[:-1]),
    reward=rng.normal(size=shape[:-1]),
    initial=np.concatenate([rng.dirichlet(np.ones(states - terminal), n), np.zeros((n, terminal))], axis=1),
    discount=np.full(n, discount),
    terminal=np.tile(np.arange(states) >= states - terminal, (n, 1)),
    successor=rng.integers(states, size=shape, dtype=np.int32) if branching else None,
  )


def make_case(name, discount=1.0):
  states, actions, horizon, options = SHAPES[name]
  seed = sorted(SHAPES).index(name)
  m, rng = processes(seed, MDPS, states, actions, discount=discount, **options), np.random.default_rng(seed)
  if name == "deterministic":  # Of the first state, too.
    m = m._replace(initial=np.eye(states)[rng.integers(states, size=MDPS)])
  return Case(
    m=m,
    horizon=horizon,
    temperature=rng.uniform(0.3, 2.0, MDPS),
    log_prior=np.log(rng.dirichlet(np.ones(actions), (MDPS, states))),
    log_policy=np.log(rng.dirichlet(np.ones(actions), (MDPS, horizon, states))),
  )


# Plain NumPy, one process at a time


def one(tree, i):
  return jax.tree.map(lambda x: x[i], tree)


def table(m):
  """P(s'|s, a) `[S, A, S]`."""
  if m.successor is None:
    return m.transition
  states, actions = m.reward.shape
  dense = np.zeros((states, actions, states))
  for s in range(states):
    for a in range(actions):
      for p, t in zip(m.transition[s, a], m.successor[s, a], strict=True):
        dense[s, a, t] += p
  return dense


def all_trajectories(m, step_weight):
  """The weight of every (s_0, a_0, .., s_H), an array with 2H + 1 axes; `step_weight` `[H, S, A]` is paid at a step.

  From a terminal state there is one way on, at no charge: action 0, staying.
  """
  dynamics = table(m)
  weight = m.initial
  for now in step_weight:
    factor = now[:, :, None] * dynamics
    factor[m.terminal] = 0.0
    for s in np.flatnonzero(m.terminal):
      factor[s, 0, s] = 1.0
    weight = weight[..., None, None] * factor
  return weight


def marginal(weight, *axes):
  return weight.sum(tuple(i for i in range(weight.ndim) if i not in axes))


def enumerated(case, i):
  """Evidence, posterior marginals, policy and dynamics, and a policy's lower bound, from the trajectories alone."""
  m, c, horizon = one(case.m, i), case.temperature[i], case.horizon
  joint = all_trajectories(m, np.stack([np.exp(case.log_prior[i] + m.reward / c)] * horizon))
  chosen = all_trajectories(m, np.exp(case.log_policy[i]))
  evidence = joint.sum()
  posterior = joint / evidence
  some = chosen > 0
  with np.errstate(invalid="ignore", divide="ignore"):
    pairs = [marginal(posterior, 2 * t, 2 * t + 1) for t in range(horizon)]
    triples = [marginal(posterior, 2 * t, 2 * t + 1, 2 * t + 2) for t in range(horizon)]
    return {
      "log_evidence": np.log(evidence),
      "marginals": np.stack([marginal(posterior, 2 * t) for t in range(horizon + 1)]),
      "policy": np.stack([pair / pair.sum(-1, keepdims=True) for pair in pairs]),
      "dynamics": np.stack([triple / triple.sum(-1, keepdims=True) for triple in triples]),
      "elbo": np.sum(chosen[some] * (np.log(joint[some]) - np.log(chosen[some]))),
      "followed": np.stack([marginal(chosen, 2 * t) for t in range(horizon)]),
    }


def soft_policy_iteration(m, c, log_prior):
  """V of the soft fixed point by Newton's method: evaluation by a linear solve, then the Boltzmann policy, repeated."""
  dynamics, live = table(m), ~m.terminal
  value = np.zeros(len(live))
  for _ in range(60):
    logits = log_prior + (m.reward + m.discount * dynamics @ value) / c
    policy = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
    earned = np.sum(policy * (m.reward - c * (np.log(policy) - log_prior)), axis=1) * live
    matrix = np.einsum("sa,sat->st", policy, dynamics) * live[:, None]
    value = np.linalg.solve(np.eye(len(live)) - m.discount * matrix, earned)
  return value


def linear_program(m):
  """V of the hard fixed point: the least V with V >= r + γ P V, V(terminal) = 0."""
  dynamics, live = table(m), ~m.terminal
  states = len(m.reward)
  rows = m.discount * dynamics[live] - np.eye(states)[live][:, None, :]
  bounds = [(None, None) if alive else (0, 0) for alive in live]
  found = scipy.optimize.linprog(
    np.ones(states), A_ub=rows.reshape(-1, states), b_ub=-m.reward[live].reshape(-1), bounds=bounds, method="highs"
  )
  assert found.status == 0
  return found.x

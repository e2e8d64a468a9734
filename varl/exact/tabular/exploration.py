"""Learning an unknown process by acting in it, with exact beliefs: posterior sampling, and what it is compared with."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from varl import checks
from varl.exact.tabular.mdp import MDP, canonical, dense
from varl.exact.tabular.messages import safe_log
from varl.exact.tabular.values import hard_value_iteration, policy_evaluation, soft_value_iteration
from varl.types import Array, Key

STRATEGIES = ("psrl", "epsilon_greedy", "soft")


class Belief(NamedTuple):
  """What is known of a process: independent conjugate posteriors for each state and action.

  Attributes:
    concentration: `[S, A, S]`, of Dirichlet distributions of P(·|s, a).
    reward_mean: `[S, A]`, the mean of the normal distribution of r(s, a).
    reward_precision: `[S, A]`, its 1/variance.
  """

  concentration: Array
  reward_mean: Array
  reward_precision: Array


class Exploration(NamedTuple):
  """What acting under a belief has cost.

  Attributes:
    regret: `[episodes]`, E_ρ[V*(s_0) - V^π(s_0)] of each episode's policy in the true process, exactly.
    belief: after the last episode.
  """

  regret: Array
  belief: Belief


def belief(
  states: int, actions: int, *, concentration: Any = 1.0, reward_mean: Any = 0.0, reward_std: Any = 1.0
) -> Belief:
  """The belief before anything was seen.

  Args:
    states, actions: S and A.
    concentration: of the Dirichlet prior, what broadcasts to `[S, A, S]`.
    reward_mean, reward_std: of the normal prior of r(s, a), what broadcasts to `[S, A]`.

  Raises:
    ValueError: fewer than one state or action; a concentration or deviation that is not above 0.
  """
  states, actions = checks.whole("states", states), checks.whole("actions", actions)
  for name, given in (("concentration", concentration), ("reward_std", reward_std)):
    if not isinstance(given, jax.core.Tracer) and not bool(jnp.all(jnp.asarray(given) > 0)):
      raise ValueError(f"{name} must be above 0; got {given}")
  shape = (states, actions)
  return Belief(
    jnp.broadcast_to(jnp.asarray(concentration, float), (*shape, states)),
    jnp.broadcast_to(jnp.asarray(reward_mean, float), shape),
    jnp.broadcast_to(1.0 / jnp.square(jnp.asarray(reward_std, float)), shape),
  )


def learn(
  known: Belief, state: Array, action: Array, reward: Array, next_state: Array, *, noise_std: Any = 1.0
) -> Belief:
  """Bayes' rule for one transition: a count more, and a precision-weighted mean.

    α(s, a, s') ← α + 1,    τ(s, a) ← τ + 1/σ²,    μ(s, a) ← μ + (r - μ)/(σ² τ)

  Args:
    known: the belief before.
    state, action, next_state: int scalars.
    reward: scalar, r(s, a) + N(0, σ²).
    noise_std: σ > 0.
  """
  at = (state, action)
  gained = 1.0 / jnp.square(jnp.asarray(noise_std, known.reward_mean.dtype))
  precision = known.reward_precision.at[at].add(gained)
  mean = known.reward_mean
  return Belief(
    known.concentration.at[(*at, next_state)].add(1.0),
    mean.at[at].add(gained * (reward - mean[at]) / precision[at]),
    precision,
  )


def expected_process(known: Belief, like: MDP) -> MDP:
  """The mean of the belief, as a process; first state, discount and terminal states are those of `like`."""
  transition = known.concentration / jnp.sum(known.concentration, axis=-1, keepdims=True)
  return _process(transition, known.reward_mean, like)


def drawn_process(known: Belief, key: Key, like: MDP) -> MDP:
  """One process drawn from the belief; first state, discount and terminal states are those of `like`."""
  dynamics_key, reward_key = jax.random.split(key)
  # Dirichlet, in logarithms: with a concentration far below 1 all of a row's gammas may round to 0.
  log_rows = jax.nn.log_softmax(jax.random.loggamma(dynamics_key, known.concentration), axis=-1)
  noise = jax.random.normal(reward_key, known.reward_mean.shape, known.reward_mean.dtype)
  return _process(jnp.exp(log_rows), known.reward_mean + noise / jnp.sqrt(known.reward_precision), like)


def explore(
  m: MDP,
  key: Key,
  *,
  episodes: int,
  horizon: int,
  strategy: str = "psrl",
  prior: Belief | None = None,
  noise_std: Any = 1.0,
  epsilon: Any = 0.1,
  temperature: Any = 0.1,
) -> Exploration:
  """Acts for some episodes in a process that is not known, and learns from each what Bayes' rule says.

    psrl:            a process is drawn from the belief at the start of an episode, and its optimal policy followed
    epsilon_greedy:  the optimal policy of the belief's mean, and with probability ε any action
    soft:            the optimum of Σ γ^t (r + c H(π)) of the belief's mean

  Drawing a process makes what is not known worth a try exactly as often as it may be best. Noise on the actions does
  not: N steps in a row against what it believes have probability (ε/A)^N.

  Args:
    m: the true process; the agent knows its states, actions, first state, discount and terminal states.
    key: consumed here.
    episodes: how many.
    horizon: H, their steps.
    strategy: "psrl", "epsilon_greedy" or "soft".
    prior: None: `belief(S, A)`.
    noise_std: σ, of what is seen of a reward.
    epsilon: ε, of "epsilon_greedy".
    temperature: c > 0, of "soft".

  Returns:
    An `Exploration`.

  Raises:
    ValueError: an unknown strategy, fewer than one episode or step.

  Reference: Strens 2000, "A Bayesian framework for reinforcement learning"; Osband, Russo, Van Roy 2013, 1306.0940,
    Algorithm 1 (PSRL).
  """
  if strategy not in STRATEGIES:
    raise ValueError(f"strategy is one of {', '.join(STRATEGIES)}; got {strategy!r}")
  episodes, horizon = checks.whole("episodes", episodes), checks.whole("horizon", horizon)
  m = dense(m)
  prior = belief(*m.reward.shape) if prior is None else prior
  return _explore(m, key, prior, noise_std, epsilon, temperature, episodes, horizon, strategy)


@partial(jax.jit, static_argnames=("episodes", "horizon", "strategy"))
def _explore(
  m: MDP,
  key: Key,
  prior: Belief,
  noise_std: Any,
  epsilon: Any,
  temperature: Any,
  episodes: int,
  horizon: int,
  strategy: str,
) -> Exploration:
  best = jnp.sum(m.initial * hard_value_iteration(m, horizon=horizon).value[0])
  actions = m.reward.shape[1]
  log_rows, log_initial = safe_log(m.transition), safe_log(m.initial)

  def policy(known: Belief, key: Key) -> Array:
    """log π `[H, S, A]`."""
    if strategy == "soft":
      return soft_value_iteration(
        expected_process(known, m), temperature=temperature, horizon=horizon, log_prior=0.0
      ).log_policy
    believed = drawn_process(known, key, m) if strategy == "psrl" else expected_process(known, m)
    chosen = jax.nn.one_hot(hard_value_iteration(believed, horizon=horizon).policy, actions, dtype=m.reward.dtype)
    share = epsilon if strategy == "epsilon_greedy" else 0.0
    return safe_log((1.0 - share) * chosen + share / actions)

  def episode(known: Belief, key: Key) -> tuple[Belief, Array]:
    policy_key, start_key, walk_key = jax.random.split(key, 3)
    log_policy = policy(known, policy_key)
    value = policy_evaluation(m, log_policy, horizon=horizon).value[0]

    def step(carry: tuple[Belief, Array], now: tuple[Array, Key]) -> tuple[tuple[Belief, Array], None]:
      known, state = carry
      log_choice, key = now
      choice_key, noise_key, move_key = jax.random.split(key, 3)
      action = jax.random.categorical(choice_key, log_choice[state])
      reward = m.reward[state, action] + noise_std * jax.random.normal(noise_key, (), m.reward.dtype)
      next_state = jax.random.categorical(move_key, log_rows[state, action])
      learned = learn(known, state, action, reward, next_state, noise_std=noise_std)
      known = jax.tree.map(lambda old, new: jnp.where(m.terminal[state], old, new), known, learned)
      return (known, jnp.where(m.terminal[state], state, next_state)), None

    start = jax.random.categorical(start_key, log_initial)
    (known, _), _ = jax.lax.scan(step, (known, start), (log_policy, jax.random.split(walk_key, horizon)))
    return known, best - jnp.sum(m.initial * value)

  known, regret = jax.lax.scan(episode, prior, jax.random.split(key, episodes))
  return Exploration(regret, known)


def _process(transition: Array, reward: Array, like: MDP) -> MDP:
  """With what of `like` is known to the agent; terminal states stay."""
  return canonical(like._replace(transition=transition, reward=reward, successor=None))

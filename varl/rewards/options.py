"""What a trajectory tells of the options that acted: the price of auxiliary variables."""

import jax
import jax.numpy as jnp
import optax

from varl import checks
from varl.networks import Network
from varl.policies import OPTION, PREVIOUS, Head, is_discrete, of_option
from varl.step import descend
from varl.types import Array, Batch, Design, Extras, Key, Metrics, Params, Reward, Spec, TrainStep, Transition

DIRECTIONS = ("backward", "forward")
"""Which neighbour a reverse model is given beside its window: the option after, or the one before."""

WINDOW = "window"
"""Where among a prepared rollout's extras the inputs of the reverse model are."""


def reverse_options(
  spec: Spec,
  head: Head,
  network: Network,
  optimizer: optax.GradientTransformation,
  *,
  count: int,
  window: int = 2,
  direction: str = "backward",
  weight: float | Array = 1.0,
  gamma: float | Array = 0.99,
  reward_scale: float | Array = 1.0,
  group: str = "reverse",
) -> Reward:
  """The environment's reward, and how well a reverse model tells the option that acted.

    r'_t = r_t + b (α/c) log q̃(o_t|·),   L = -log q̃(o_t|·)

    forward:   q̃(o_t | o_{t-1}, s_{t:t+K}, a_{t:t+K})
    backward:  q̃(o_t | o_{t+1}, s_{t-K:t+1}, a_{t-K:t})

  With the price of the choice, -b α log π(o_t|s_t, o_{t-1}) (`values.option_value(choice_weight=b)`), and b = 1, this
  bounds the evidence of the policy whose options are summed out; exactly where q̃ is the posterior of the options. That
  evidence does not ask for options which differ. b > 1 pays (b - 1) α for every nat that the trajectory tells of them.

  A window does not reach over an episode's end or a rollout's: what is beyond is zeros, marked as such.

  log q̃(o_t|·) depends on what is done after t. It is paid with the last step that it depends on, and γ^-k there for k
  steps later, so that every choice is credited with what it made of it, and the discounted sum is the same.

  Args:
    spec: the environment's sizes.
    head: the policy's, for the actions that are executed.
    network: q̃, `[..., window_size] -> [..., n]`, logits.
    optimizer: for it.
    count: n, how many options there are.
    window: K >= 0, steps beside the present one.
    direction: "backward" or "forward".
    weight: b >= 0.
    gamma: γ > 0, c: `reward_scale`, as in the value.
    group: the parameter group's name.

  Returns:
    A Reward for on-policy values. Metrics: `<group>_loss`; `<group>_accuracy`, the share of options told rightly;
    `<group>_gain`, the mean of log q̃(o_t|·) - log π(o_t|s_t, o_{t-1}) in nats: what the trajectory tells of a choice
    beyond where it was made.

  Raises:
    ValueError: an unknown direction, a negative window, fewer than one option; at the update, rows that were never
      prepared.

  Reference: Agakov & Barber 2004, An Auxiliary Variational Method, for the bound.
  """
  if direction not in DIRECTIONS:
    raise ValueError(f"direction is one of {', '.join(DIRECTIONS)}; got {direction!r}")
  count, window = checks.whole("count", count), checks.whole("window", window, least=0)
  checks.arguments(above={"gamma": gamma}, least={"weight": weight})
  discrete, forward = is_discrete(head), direction == "forward"

  def seen(transitions: Transition) -> Array:
    """The reverse model's inputs `[T, B, window_size]`."""
    dtype, ended = transitions.obs.dtype, _ended(transitions)
    if discrete:
      action = jax.nn.one_hot(transitions.action, spec.action_size, dtype=dtype)
    else:
      action = head.execute(transitions.action)
    step = jnp.concatenate([transitions.obs, action, jnp.ones((*ended.shape, 1), dtype)], axis=-1)
    option = jax.nn.one_hot(transitions.extras[OPTION], count, dtype=dtype)
    if forward:
      parts = [jax.nn.one_hot(transitions.extras[PREVIOUS], count, dtype=dtype)]
    else:
      parts = [jnp.where(ended[..., None], 0.0, _later(option, 1)), transitions.next_obs]
    alive = jnp.ones_like(ended)
    for k in range(window + 1):
      moved = _later(step, k) if forward else _earlier(step, k)
      parts.append(jnp.where(alive[..., None], moved, 0.0))
      # Whether the step after (before) the k-th is of the same episode; beyond the rollout all is zeros.
      alive = alive & (~_later(ended, k) if forward else ~_earlier(ended, k + 1))
    return jax.lax.stop_gradient(jnp.concatenate(parts, axis=-1))

  def prepare(design: Design, params: Params, transitions: Transition, key: Key) -> Extras:
    return {WINDOW: seen(transitions)}

  def log_reverse(params: Params, batch: Batch) -> tuple[Array, Array]:
    """log q̃ of all options, and of the one that acted."""
    if WINDOW not in batch.extras:
      raise ValueError(
        f"a reverse model sees prepared rollouts (Agent.prepare), but the batch's extras are {sorted(batch.extras)}"
      )
    every = jax.nn.log_softmax(network.apply(params[group], batch.extras[WINDOW]))
    return every, of_option(every, batch.extras[OPTION])

  def value(design: Design, params: Params, batch: Batch, key: Key) -> Array:
    own = log_reverse(params, batch)[1]
    if own.ndim == 2:
      own = delayed(own, _ended(batch), window if forward else 1, gamma)
    return batch.reward + weight * design.temperature.value(params) / reward_scale * own

  def step(design: Design) -> TrainStep:
    def loss(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
      every, own = log_reverse(params, batch)
      told = jnp.argmax(every, axis=-1) == batch.extras[OPTION]
      log_choice = of_option(batch.extras["log_options"], batch.extras[OPTION])
      return -jnp.mean(own), {
        f"{group}_accuracy": jnp.mean(told.astype(own.dtype)),
        f"{group}_gain": jnp.mean(own - log_choice),
      }

    return descend(group, loss, optimizer, axis=design.axis, terms=design.terms)

  own = "a reverse model tells the options of the policy that it learned beside"
  return Reward(lambda key: {group: network.init(key)}, value, step, prepare=prepare, transfer=own)


def window_size(spec: Spec, count: int, window: int, direction: str) -> int:
  """How many inputs the reverse model of `reverse_options` has."""
  return (
    count
    + (window + 1) * (spec.observation_size + spec.action_size + 1)
    + (spec.observation_size if direction == "backward" else 0)
  )


def delayed(x: Array, ended: Array, steps: int, gamma: float | Array) -> Array:
  """Each row's x moved to the row `steps` later, or to its episode's or the rollout's last, over γ for each step.

  Args:
    x: `[T, B]`.
    ended: booleans `[T, B]`, the last rows of episodes.
    steps: at least 0.
    gamma: γ > 0.

  Returns:
    `[T, B]`, whose sum discounted by γ^t over an episode is that of x.
  """
  last = jnp.asarray(ended).at[-1].set(True)
  moved, waiting = jnp.zeros_like(x), x
  for _ in range(steps):
    moved = moved + jnp.where(last, waiting, 0.0)
    waiting = _earlier(jnp.where(last, 0.0, waiting) / gamma, 1)
  return moved + waiting


def _ended(transitions: Transition) -> Array:
  return jnp.asarray((transitions.discount == 0) | (transitions.truncated > 0))


def _later(x: Array, k: int) -> Array:
  """Row t holds row t + k; zeros beyond the end."""
  return jnp.concatenate([x[k:], jnp.zeros_like(x[:k])])


def _earlier(x: Array, k: int) -> Array:
  """Row t holds row t - k; zeros before the beginning."""
  return jnp.concatenate([jnp.zeros_like(x[: len(x) - max(len(x) - k, 0)]), x[: max(len(x) - k, 0)]])

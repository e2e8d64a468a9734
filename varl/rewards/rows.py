"""What learned rewards share: the rows they see, ends that one stays in, and the loss that tells two sources apart."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from varl import checks, losses, normalize
from varl import demonstrations as demos
from varl.demonstrations import Demonstrations
from varl.networks import state_action
from varl.types import Array, Batch, Key, Metrics, Observation, Params, Spec


class Inputs(NamedTuple):
  """What a reward's network sees of a row.

  Attributes:
    size: o + d, or o where it sees no action; the mark of the absorbing state comes beside it.
    of: `(obs, raw action) -> [..., size]`.
  """

  size: int
  of: Callable[[Observation, Array], Array]

  def marked(self, x: Array) -> Array:
    """`[..., size] -> [..., size + 1]`: rows of living states."""
    return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, 1)])

  def end(self) -> Array:
    """`[size + 1]`: the absorbing state."""
    return jnp.zeros(self.size + 1).at[-1].set(1.0)


def inputs_of(spec: Spec, execute: Callable[[Array], Array], *, state_only: bool) -> Inputs:
  """Observations beside executed actions (one-hot where they are discrete), or alone."""
  if state_only:
    return Inputs(spec.observation_size, lambda obs, action: obs)
  return Inputs(spec.observation_size + spec.action_size, state_action(spec, execute))


def check_absorbing(gamma: Any, absorbing: bool) -> None:
  """Raises ValueError where an absorbing state would be stayed in without end."""
  if absorbing:
    checks.share("where an absorbing state is stayed in for γ/(1 - γ) steps, gamma", gamma, upper_open=True)


def absorbing_steps(discount: Array, gamma: Array | float) -> Array:
  """How many steps of the absorbing state, discounted to its row, follow each row: γ/(1 - γ) where it ends, else 0."""
  return jnp.where(discount > 0, 0.0, gamma / (1.0 - gamma))


def mean_of_visits(
  live: Array, ended: Array, discount: Array, *, gamma: Array | float, absorbing: bool, axis: str | None
) -> Array:
  """The mean over the rows and the visits of the absorbing state that follow them.

  Args:
    live: `[B]`, of each row.
    ended: scalar, of the absorbing state.
    discount: `[B]`, 0 where a row ends its episode.
    gamma: γ.
    absorbing: whether these visits count.
    axis: the mapped axis over which rows are spread; the mean over it of what this returns is the whole batch's.
  """
  if not absorbing:
    return jnp.mean(live)
  steps = absorbing_steps(discount, gamma)
  return jnp.mean(live + steps * ended) / (1.0 + losses.batch_mean(steps, axis))


def expert_rows(
  demonstrations: Demonstrations, params: Params, key: Key, n: int, *, squashed: bool, axis: str | None
) -> Batch:
  """n rows of demonstrations as a design's functions see rows: scaled, other ones on each device."""
  rows = demos.sampled(demonstrations, key, n, squashed, axis)
  return rows._replace(obs=normalize.scaled(params, rows.obs), next_obs=normalize.scaled(params, rows.next_obs))


def told_apart(
  logits: dict[str, Array],
  end: Array,
  mean: dict[str, Callable[[Array, Array], Array]],
  *,
  clip: Array | float,
  group: str,
) -> tuple[Array, Metrics]:
  """A discriminator's loss on the rows of "expert" and "policy", and what to report of it.

  Args:
    logits: `[B]` of each source.
    end: scalar, the logit in the absorbing state.
    mean: of each source, `mean_of_visits` of its rows.
    clip: logits are reported within ± this.
    group: of the metrics' names.
  """
  loss, accuracy, metrics = jnp.zeros(()), jnp.zeros(()), {}
  for source, logit in logits.items():
    expert, of = source == "expert", mean[source]
    loss = loss + of(losses.discriminator_loss(logit, expert), losses.discriminator_loss(end, expert))
    accuracy = accuracy + 0.5 * of(((logit > 0) == expert) * 1.0, ((end > 0) == expert) * 1.0)
    metrics[f"{group}_{source}"] = of(*(jnp.clip(x, -clip, clip) for x in (logit, end)))
  return loss, {**metrics, f"{group}_accuracy": accuracy}


def steepness(of: Callable[[Array], Array], key: Key, first: Array, second: Array) -> Array:
  """The mean of (‖∇_x f(x̂)‖ - 1)² at points between rows.

  Args:
    of: f, `[B, d] -> [B]`, row by row.
    key: consumed: where between them.
    first, second: `[B, d]`.
  """
  share = jax.random.uniform(key, (len(first), 1), first.dtype)
  between = share * first + (1.0 - share) * second
  return jnp.mean(losses.norm_penalty(jax.grad(lambda x: jnp.sum(of(x)))(between)))

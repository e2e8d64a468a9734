"""A policy that says of each step how much of the discounted return is still to come when it is taken."""

from typing import Any

import jax.numpy as jnp

from varl.types import VISIT, Array, Carry, Design, Extras, Key, Observation, Params, Posterior


def discounting(posterior: Posterior, gamma: float | Array) -> Posterior:
  """The same policy, which records γ^t of each step t of an episode as `extras["visit"]`.

  Rows that count by it are visited as the discounted return has it, d(s) = Σ_t γ^t P(s_t = s): what is fitted to
  several tasks at once (`priors.distilled`) needs it to improve their sum.

  Args:
    posterior: what acts.
    gamma: γ.
  """

  def carry(batch: int) -> Carry:
    return {"inner": posterior.carry(batch), "visit": jnp.ones(batch)}

  def follow(choose: Any) -> Any:
    def acting(design: Design, params: Params, carry: Carry, obs: Observation, key: Key) -> tuple[Array, Carry, Extras]:
      held: Any = carry
      action, inner, extras = choose(design, params, held["inner"], obs, key)
      return action, {"inner": inner, "visit": gamma * held["visit"]}, {**extras, VISIT: held["visit"]}

    return acting

  return posterior._replace(carry=carry, act=follow(posterior.act), mode=follow(posterior.mode))

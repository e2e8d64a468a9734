"""The least time one SAC update can take: its matrix products at the rate this machine reaches on them.

    python -m experiments.peers.throughput_floor --observation-size 17 --action-size 6

prints one JSON line.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

_CONTRACT = {"nn": ((1,), (0,)), "tn": ((0,), (0,)), "nt": ((1,), (1,))}


class Dot(NamedTuple):
  """One matrix product `[m, k] x [k, n]` and how often an update does it.

  Attributes:
    form: how the operands lie in memory. "nn" is a layer's forward pass, x W; "tn" the gradient of its weights, xᵀ g;
      "nt" the gradient of its input, g Wᵀ.
    m: rows of the result.
    k: length of the sum.
    n: columns of the result.
    count: times an update.
  """

  form: str
  m: int
  k: int
  n: int
  count: int

  @property
  def flops(self) -> int:
    """Floating-point operations of one product: m·n sums of k products, 2·m·k·n."""
    return 2 * self.m * self.k * self.n


def update_dots(
  observation_size: int,
  action_size: int,
  *,
  batch_size: int = 256,
  hidden: Sequence[int] = (256, 256),
  critics: int = 2,
) -> list[Dot]:
  """Lists the matrix products of one SAC update with a state-dependent Gaussian actor.

  With F a forward pass, W the gradient of the weights and I the gradient of the inputs of all layers but the first,
  for n critics `[o + a, *hidden, 1]` and the actor `[o, *hidden, 2a]`:

    critic loss:  F actor at s'; n F target critics at (s', a'); n F critics at (s, a); n W and n I critics
    actor loss:   F actor at s; n F critics at (s, ã); n I critics, and on through the first layer to the a columns
                  of the action; W and I actor
    temperature:  nothing of its own: log π(ã|s) is the actor loss's

  Biases, activations, the policy's log-probabilities, Adam and the target copies are no matrix products and are left
  out, as are environment steps and replay: the floor is a lower bound.

  Args:
    observation_size: o.
    action_size: a.
    batch_size: transitions in an update.
    hidden: widths of the hidden layers of every network.
    critics: n.

  Returns:
    The products, equal ones merged.

  Raises:
    ValueError: when a size is not positive or there is no hidden layer.
  """
  sizes = (observation_size, action_size, batch_size, critics, *hidden)
  if not hidden or min(sizes) < 1:
    raise ValueError(f"sizes must be positive and hidden must not be empty, got {sizes[:4]} and hidden={tuple(hidden)}")
  counts: dict[tuple[str, int, int, int], int] = {}

  def add(form: str, m: int, k: int, n: int, times: int) -> None:
    counts[form, m, k, n] = counts.get((form, m, k, n), 0) + times

  def forward(layers: list[tuple[int, int]], times: int) -> None:
    for width_in, width_out in layers:
      add("nn", batch_size, width_in, width_out, times)

  def weight_gradients(layers: list[tuple[int, int]], times: int) -> None:
    for width_in, width_out in layers:
      add("tn", width_in, batch_size, width_out, times)

  def input_gradients(layers: list[tuple[int, int]], times: int) -> None:
    for width_in, width_out in layers[1:]:
      add("nt", batch_size, width_out, width_in, times)

  actor = list(zip((observation_size, *hidden), (*hidden, 2 * action_size), strict=True))
  critic = list(zip((observation_size + action_size, *hidden), (*hidden, 1), strict=True))

  forward(actor, 1)
  forward(critic, 2 * critics)
  weight_gradients(critic, critics)
  input_gradients(critic, critics)

  forward(actor, 1)
  forward(critic, critics)
  input_gradients(critic, critics)
  add("nt", batch_size, hidden[0], action_size, critics)
  weight_gradients(actor, 1)
  input_gradients(actor, 1)
  return [Dot(*shape, count) for shape, count in counts.items()]


def update_flops(
  observation_size: int,
  action_size: int,
  *,
  batch_size: int = 256,
  hidden: Sequence[int] = (256, 256),
  critics: int = 2,
) -> int:
  """Returns the floating-point operations of the matrix products of one SAC update.

  Σ count · 2·m·k·n over `update_dots`, which lists the terms and names the arguments.
  """
  dots = update_dots(observation_size, action_size, batch_size=batch_size, hidden=hidden, critics=critics)
  return sum(dot.count * dot.flops for dot in dots)


def dots_timer(dots: Sequence[Dot], *, flops_per_run: float = 1e10) -> Callable[[], float]:
  """A clock for float32 products, each done `count` times a round, on the default device.

  All products of a round are independent of one another, so the compiler may run several at once, as it may with
  those of two critics; a round's total is never slower than the same products one after the other need be. The
  rounds follow one another in a compiled loop, in which every left operand takes one number (written in place) from
  its own product of the round before: no product can be dropped, moved out of the loop or merged with another.

  Args:
    dots: what to measure.
    flops_per_run: least work in one call of the clock, so that the cost of a call does not show.

  Returns:
    `() -> seconds` of one round; compiled already.
  """
  dots = [dot for dot in dots for _ in range(dot.count)]
  rounds = max(4, int(flops_per_run / sum(dot.flops for dot in dots)))
  keys = jax.random.split(jax.random.key(0), (len(dots), 2))
  lefts, rights = [], []
  for dot, (key_left, key_right) in zip(dots, keys, strict=True):
    left_shape = (dot.k, dot.m) if dot.form == "tn" else (dot.m, dot.k)
    right_shape = (dot.n, dot.k) if dot.form == "nt" else (dot.k, dot.n)
    lefts.append(jax.random.normal(key_left, left_shape, jnp.float32))
    rights.append(jax.random.normal(key_right, right_shape, jnp.float32))

  @jax.jit
  def run(lefts: list[jax.Array], rights: list[jax.Array]) -> list[jax.Array]:
    def body(_: jax.Array, carry: tuple[list[jax.Array], list[jax.Array]]) -> tuple[list[jax.Array], list[jax.Array]]:
      lefts, products = carry
      lefts = [left.at[0, 0].set(jnp.tanh(product[0, 0])) for left, product in zip(lefts, products, strict=True)]
      products = [
        jax.lax.dot_general(left, right, (_CONTRACT[dot.form], ((), ())))
        for dot, left, right in zip(dots, lefts, rights, strict=True)
      ]
      return lefts, products

    zeros = [jnp.zeros((dot.m, dot.n), jnp.float32) for dot in dots]
    return jax.lax.fori_loop(0, rounds, body, (lefts, zeros))[1]

  def seconds() -> float:
    start = time.perf_counter()
    jax.block_until_ready(run(lefts, rights))
    return (time.perf_counter() - start) / rounds

  seconds()
  return seconds


class Clocks(NamedTuple):
  """Clocks `() -> seconds` for the products of one update.

  Attributes:
    floor: all together, where they may overlap. One product of these small shapes does not fill two cores by itself;
      two that run side by side come closer. An update does have such pairs (its critics), though not everywhere, so
      this is a bound from below.
    by_dot: each product alone, over and over.
  """

  floor: Callable[[], float]
  by_dot: dict[Dot, Callable[[], float]]

  def sequence(self) -> float:
    """Seconds of all products of one update at the rate of each alone: Σ count · seconds of one."""
    return sum(dot.count * clock() for dot, clock in self.by_dot.items())


def clocks(dots: Sequence[Dot]) -> Clocks:
  """Compiles the clocks of the products of an update (`update_dots`)."""
  return Clocks(dots_timer(dots), {dot: dots_timer([dot._replace(count=1)], flops_per_run=2e9) for dot in dots})


def main() -> None:
  """Prints the FLOPs of one update, the measured rate and the floor as one JSON line."""
  parser = argparse.ArgumentParser(description="matrix-product floor of one SAC update")
  parser.add_argument("--observation-size", type=int, default=17)
  parser.add_argument("--action-size", type=int, default=6)
  parser.add_argument("--batch-size", type=int, default=256)
  parser.add_argument("--repeats", type=int, default=15, help="timed runs, of which the median is taken")
  args = parser.parse_args()
  sizes = (args.observation_size, args.action_size)
  dots = update_dots(*sizes, batch_size=args.batch_size)
  measured = clocks(dots)

  def median(clock: Callable[[], float]) -> float:
    return statistics.median(clock() for _ in range(args.repeats))

  floor, flops = median(measured.floor), update_flops(*sizes, batch_size=args.batch_size)
  print(
    json.dumps(
      {
        **vars(args),
        "device": jax.devices()[0].device_kind,
        "mflop_per_update": flops / 1e6,
        "gflops": flops / floor / 1e9,
        "floor_ms_per_update": 1e3 * floor,
        "sequence_ms_per_update": 1e3 * median(measured.sequence),
        "gflops_by_dot": {
          f"{dot.count} x {dot.form} {dot.m}x{dot.k}x{dot.n}": dot.flops / median(clock) / 1e9
          for dot, clock in measured.by_dot.items()
        },
      }
    )
  )


if __name__ == "__main__":
  main()

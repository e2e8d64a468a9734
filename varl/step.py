"""The train-step transformer: optax chains gradient transforms, varl chains parameter-group transforms.

A `TrainStep` changes some groups of an agent's parameters. `descend`, `assign` and `track` make one; `chain`, `joint`,
`every` and `repeat` combine several into one more of the same type, so that a whole algorithm is one `TrainStep`:

  step = chain(
      joint(descend("critic", critic_loss, adam), descend("actor", actor_loss, adam)),
      track("critic", into="target_critic", rate=0.005),
  )
  state = step.init(params)
  params, state, metrics = step.step(params, state, batch, key)
"""

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from varl import checks
from varl.types import Array, ArrayTree, Batch, Key, LossFn, Metrics, Params, State, Term, TrainStep

POSTERIOR_STREAM = "posterior"
"""The noise stream of the actions drawn at `batch.obs`: a policy's loss and a temperature's share it, and so one
draw."""

IMAGINE_STREAM = "imagine"
"""The noise stream of imagined rows, and where among a real batch's extras they are: (rows, metrics)."""

IMAGINED = "imagined"
"""Which rows of a batch are a model's, among its extras: 1 there, 0 for a real one."""

REWARD_STREAM = "reward"
"""The noise stream of a reward that relabels a batch."""

SIDE = "side"
"""Where among a batch's extras its `types.SideBatch` is; also the noise stream that it is drawn with."""


def entropy_metric(group: str) -> str:
  """What a policy's entropy is called among the metrics: that of "actor" plainly, others by their group."""
  return "entropy" if group == "actor" else f"{group}_entropy"


def stream_key(key: Key, stream: str) -> Key:
  """The key of a named noise stream: the same name gives the same key, whatever else is in the step."""
  return jax.random.fold_in(key, zlib.crc32(stream.encode()))


def descend(
  groups: str | Sequence[str],
  loss: LossFn,
  optimizer: optax.GradientTransformation,
  *,
  name: str | None = None,
  stream: str | None = None,
  axis: str | None = None,
  terms: Sequence[Term] = (),
) -> TrainStep:
  """A gradient step on `groups`; every other group is a constant of the loss.

  θ_G ← θ_G + optimizer(∇_{θ_G} [loss(θ, batch, key) + Σ_k w_k term_k(θ, batch, key_k)])

  Args:
    groups: the group or groups to change.
    loss: `(params, batch, key) -> (scalar, metrics)`, of all groups.
    optimizer: the optax transformation for these groups together.
    name: names the state and the metrics; by default the groups' names joined by "+".
    stream: the noise stream that the loss's key is folded from; by default `name`. It is the name and not the
      position, so that adding a loss leaves the others' noise unchanged. Two losses with one stream receive the same
      key: where both draw the same actions, XLA computes the shared forward pass once.
    axis: a mapped axis (`shard_map`, `vmap`) over whose members loss, gradients and metrics are averaged, which is
      right for means over the batch. What is no mean (a deviation, a maximum, a ratio of sums) the loss makes global
      itself, of `losses.batch_mean` or a collective. None: single device.
    terms: losses that are added; those that are not `into` this step are left out. An axis of a design passes
      `design.terms`. A concrete weight of 0 leaves the term out of the sum; it is reported all the same.

  Returns:
    A TrainStep whose metrics are the losses' own, `<term>_loss` of each term, `<name>_loss` (the whole sum) and
    `<name>_grad_norm` (global norm before the optimizer).

  Raises:
    ValueError: no group, a group named twice, two terms of one name; at `init` a group that the parameters lack or that
      has a leaf which is not of floating point; at the step, a loss that is not (scalar, metrics).
  """
  groups = (groups,) if isinstance(groups, str) else tuple(groups)
  if not groups or len(set(groups)) != len(groups):
    raise ValueError(f"descend takes one or more different groups, got {groups!r}")
  label = "+".join(groups) if name is None else name
  stream = label if stream is None else stream
  added = tuple(term for term in terms if term.into == label)
  names = tuple(term.name for term in added)
  if len({*names, label}) <= len(names):
    raise ValueError(f"the terms of one loss have different names, and another than its own {label!r}; got {names}")

  def init(params: Params) -> State:
    own = _pick(params, groups, label)
    for path, leaf in jax.tree.leaves_with_path(own):
      if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
        raise ValueError(
          f"step {label!r} descends on arrays of floating point, but {jax.tree_util.keystr(path)} is "
          f"{jnp.result_type(leaf)}; a counter has a group of its own"
        )
    return {label: optimizer.init(own)}

  def step(params: Params, state: State, batch: Batch, key: Key) -> tuple[Params, State, Metrics]:
    own = _pick(params, groups, label)

    def of_own(own: Params) -> tuple[Array, Metrics]:
      everything = {**params, **own}
      value, metrics = _evaluated(label, loss(everything, batch, stream_key(key, stream)))
      for term in added:
        extra, more = _evaluated(term.name, term.loss(everything, batch, stream_key(key, term.stream)))
        metrics = _merge_metrics(metrics, {**more, f"{term.name}_loss": extra})
        if not isinstance(term.weight, int | float) or term.weight:
          value = value + term.weight * extra
      # The mean of the *loss* is differentiated: where shard_map tracks what is replicated, the gradient with respect
      # to a replicated parameter is summed over the axis, and that sum is then the gradient of the mean.
      return (value, metrics) if axis is None else jax.lax.pmean((value, metrics), axis)

    (value, metrics), grads = jax.value_and_grad(of_own, has_aux=True)(own)
    if axis is not None:  # the mean where nothing is tracked, and no change where it is
      grads = jax.lax.pmean(grads, axis)
    updates, opt_state = optimizer.update(grads, state[label], own)
    new = optax.apply_updates(own, updates)
    metrics = {**metrics, f"{label}_loss": value, f"{label}_grad_norm": optax.tree.norm(grads)}
    return {**params, **new}, {**state, label: opt_state}, metrics

  return TrainStep(init, step, groups, (label,), (label,), names)


def assign(
  group: str,
  fn: Callable[[Params, Batch, Key], tuple[ArrayTree, Metrics]],
  *,
  name: str | None = None,
  stream: str | None = None,
) -> TrainStep:
  """A closed-form update: θ_group ← fn(θ, batch, key), with no gradient through it (moments, residual temperatures).

  Args:
    group: the group to write.
    fn: gives the new value, of the old one's structure, shapes and dtypes, and metrics. On several devices it
      averages over the mapped axis itself, since only it knows which of its quantities are means.
    name: by default `group`.
    stream: as in `descend`.

  Raises:
    ValueError: at `init`, the parameters lack the group.
  """
  label = group if name is None else name
  stream = label if stream is None else stream

  def init(params: Params) -> State:
    _pick(params, (group,), label)
    return {}

  def step(params: Params, state: State, batch: Batch, key: Key) -> tuple[Params, State, Metrics]:
    new, metrics = fn(params, batch, stream_key(key, stream))
    new = jax.tree.map(lambda old, x: jnp.asarray(x, old.dtype), params[group], new)
    return {**params, group: jax.lax.stop_gradient(new)}, state, metrics

  return TrainStep(init, step, (group,), (label,))


def track(group: str, *, into: str, rate: float | Array = 1.0, name: str | None = None) -> TrainStep:
  """A slow copy: θ_into ← (1 - rate) θ_into + rate θ_group (polyak averaging).

  `rate=1` copies; under `every(n, ...)` that is the hard target copy.

  Args:
    group: the group that is followed.
    into: the copy; it starts as a real copy (see `copy`), so that buffers can be donated.
    rate: in (0, 1].
    name: by default `into`.

  Raises:
    ValueError: `into` is `group`, or a concrete rate lies outside (0, 1].
  """
  if into == group:
    raise ValueError(f"track copies one group into another, got {group!r} for both")
  checks.share("rate", rate, lower_open=True)
  label = into if name is None else name

  def init(params: Params) -> State:
    _pick(params, (group, into), label)
    return {}

  def step(params: Params, state: State, batch: Batch, key: Key) -> tuple[Params, State, Metrics]:
    del batch, key
    slow = jax.tree.map(lambda t, x: (t + rate * (x - t)).astype(t.dtype), params[into], params[group])
    return {**params, into: slow}, state, {}

  return TrainStep(init, step, (into,), (label,))


def chain(*steps: TrainStep) -> TrainStep:
  """One after another: a later step reads what an earlier one wrote.

  Raises:
    ValueError: no step, or two transforms of one name.
  """
  names = _names("chain", steps)

  def step(params: Params, state: State, batch: Batch, key: Key) -> tuple[Params, State, Metrics]:
    metrics: Metrics = {}
    for s in steps:
      params, state, new = s.step(params, state, batch, key)
      metrics = _merge_metrics(metrics, new)
    return params, state, metrics

  writes = tuple(dict.fromkeys(group for s in steps for group in s.writes))
  return TrainStep(_joint_init(steps), step, writes, names, *_losses(steps))


def joint(*steps: TrainStep) -> TrainStep:
  """All at once: every step reads the same old parameters.

  Raises:
    ValueError: no step, two transforms of one name, or two steps that write one group.
  """
  names = _names("joint", steps)
  writes = tuple(group for s in steps for group in s.writes)
  overlap = sorted({group for group in writes if writes.count(group) > 1})
  if overlap:
    raise ValueError(
      f"joint steps write different groups, but {overlap} would be written twice; use chain to order them"
    )

  def step(params: Params, state: State, batch: Batch, key: Key) -> tuple[Params, State, Metrics]:
    new_params, new_state = dict(params), dict(state)
    metrics: Metrics = {}
    for s in steps:
      p, st, new = s.step(params, state, batch, key)
      new_params |= {group: p[group] for group in s.writes}
      new_state |= {name: st[name] for name in s.names if name in st}
      metrics = _merge_metrics(metrics, new)
    return new_params, new_state, metrics

  return TrainStep(_joint_init(steps), step, writes, names, *_losses(steps))


def share(stream: str, draw: Callable[[Params, Batch, Key], Any], step: TrainStep) -> TrainStep:
  """Draws once what several transforms of `step` would each draw alike, and hands it on as `batch.extras[stream]`.

  The key is that of the stream, so transforms of this stream that find nothing there and draw for themselves see the
  same numbers: sharing changes the cost and no result. It is needed because XLA merges equal arithmetic, but not two
  equal loops, and on a CPU random bits come from a loop.

  Args:
    stream: the noise stream.
    draw: `(params, batch, key) -> anything`, of the parameters as they are before `step`.
    step: what reads it.
  """

  def run(params: Params, state: State, batch: Batch, key: Key) -> tuple[Params, State, Metrics]:
    drawn = jax.lax.stop_gradient(draw(params, batch, stream_key(key, stream)))
    return step.step(params, state, batch._replace(extras={**batch.extras, stream: drawn}), key)

  return step._replace(step=run)


def replace(stream: str, make: Callable[[Params, Batch, Key], tuple[Batch, Metrics]], step: TrainStep) -> TrainStep:
  """Hands `step` another batch than the one that came, made anew at each call: imagined rows in place of real ones.

  Args:
    stream: the noise stream of `make`.
    make: `(params, batch, key) -> (batch, metrics)`, of the parameters as they are before `step`; a constant of its
      losses.
    step: what learns from it.
  """

  def run(params: Params, state: State, batch: Batch, key: Key) -> tuple[Params, State, Metrics]:
    made, own = jax.lax.stop_gradient(make(params, batch, stream_key(key, stream)))
    params, state, metrics = step.step(params, state, made, key)
    return params, state, _merge_metrics(own, metrics)

  return step._replace(step=run)


def every(n: int, step: TrainStep) -> TrainStep:
  """Runs `step` on each n-th call, the n-th first; on the others it changes nothing and its metrics are 0.

  What counts inside it (the schedule of an optimizer) counts 1 for n updates.

  Raises:
    ValueError: n is not a positive integer.
  """
  n = checks.whole("n", n)
  label = f"every_{n}({'+'.join(step.names)})"

  def init(params: Params) -> State:
    return {**step.init(params), label: jnp.zeros((), jnp.int32)}

  def run(params: Params, state: State, batch: Batch, key: Key) -> tuple[Params, State, Metrics]:
    count = (state[label] + 1) % n
    once = jax.jit(step.step, inline=True)  # traced once, for the shapes and for the branch
    shapes = jax.eval_shape(once, params, state, batch, key)[2]

    def own(params: Params, state: State) -> tuple[Params, State]:
      return {g: params[g] for g in step.writes}, {name: state[name] for name in step.names if name in state}

    def skip() -> tuple[Params, State, Metrics]:
      return *own(params, state), {k: jnp.zeros(m.shape, m.dtype) for k, m in shapes.items()}

    def take() -> tuple[Params, State, Metrics]:
      new_params, new_state, metrics = once(params, state, batch, key)
      return *own(new_params, new_state), metrics

    new_params, new_state, metrics = jax.lax.cond(count == 0, take, skip)
    return {**params, **new_params}, {**state, **new_state, label: count}, metrics

  return step._replace(init=init, step=run, names=(*step.names, label))


def repeat(n: int, step: TrainStep) -> TrainStep:
  """Runs `step` n times on one batch, each time with a key of its own; metrics are means over the n.

  What counts inside it (the schedule of an optimizer) counts n for each update.

  Raises:
    ValueError: n is not a positive integer.
  """
  n = checks.whole("n", n)

  def run(params: Params, state: State, batch: Batch, key: Key) -> tuple[Params, State, Metrics]:
    def one(carry: tuple[Any, Any], key: Key) -> tuple[tuple[Any, Any], Metrics]:
      new, state, metrics = step.step({**params, **carry[0]}, carry[1], batch, key)
      return ({group: new[group] for group in step.writes}, state), metrics

    start = ({group: params[group] for group in step.writes}, state)
    (new, state), metrics = jax.lax.scan(one, start, jax.random.split(key, n))
    return {**params, **new}, state, jax.tree.map(lambda x: jnp.mean(x, axis=0), metrics)

  return step._replace(step=run)


def copy(tree: ArrayTree) -> ArrayTree:
  """A real copy of a group, to start its target from: two groups never share a buffer, so both can be donated."""
  return jax.tree.map(jnp.copy, tree)


def _pick(params: Params, groups: Sequence[str], label: str) -> dict[str, Any]:
  missing = [group for group in groups if group not in params]
  if missing:
    raise ValueError(f"step {label!r} needs the parameter groups {missing}, but the parameters have {sorted(params)}")
  return {group: params[group] for group in groups}


def _names(kind: str, steps: Sequence[TrainStep]) -> tuple[str, ...]:
  if not steps:
    raise ValueError(f"{kind} takes at least one step")
  names = tuple(name for s in steps for name in s.names)
  twice = sorted({name for name in names if names.count(name) > 1})
  if twice:
    raise ValueError(f"the steps of a {kind} have different names, but {twice} stand twice; give name=...")
  return names


def _losses(steps: Sequence[TrainStep]) -> tuple[tuple[str, ...], tuple[str, ...]]:
  """`descends` and `terms` of several steps together."""
  return tuple(name for s in steps for name in s.descends), tuple(name for s in steps for name in s.terms)


def _evaluated(name: str, found: Any) -> tuple[Array, Metrics]:
  """What a loss gave, checked to be (scalar, metrics)."""
  if not isinstance(found, tuple) or len(found) != 2 or not isinstance(found[1], dict):
    parts = (
      f"({', '.join(type(part).__name__ for part in found)})" if isinstance(found, tuple) else type(found).__name__
    )
    raise ValueError(f"the loss of {name!r} returns (scalar, metrics), the metrics a dict; got {parts}")
  if jnp.shape(found[0]) != ():
    raise ValueError(
      f"the loss of {name!r} is a scalar, such as a mean over the batch; got shape {jnp.shape(found[0])}"
    )
  return found


def _joint_init(steps: Sequence[TrainStep]) -> Callable[[Params], State]:
  def init(params: Params) -> State:
    return {k: v for s in steps for k, v in s.init(params).items()}

  return init


def _merge_metrics(old: Metrics, new: Metrics) -> Metrics:
  twice = sorted(old.keys() & new.keys())
  if twice:
    raise ValueError(f"two steps report the metrics {twice}; give their losses different metric names")
  return {**old, **new}

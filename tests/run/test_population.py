"""Populations: each member is the run alone, goes on after a kill, and nothing that cannot be mapped is taken."""

import json
import shutil
import types

import jax
import numpy as np
import pytest

import varl
from varl import cli
from varl.report import records
from varl.run import checkpoint, configure, directory, members
from varl.run.crew import Crew
from varl.run.progress import Reporter

FEW = {
  "num_timesteps": 400, "num_envs": 4, "warm_up": 100, "batch_size": 8, "hidden": (8,), "eval_every": 100,
  "episode_length": 20, "eval_episodes": 2, "preset": False, "replay_capacity": 400, "compile_cache": False,
}  # fmt: skip
GRID = {"learning_rate": [3e-4, 3e-3]}


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
  out = tmp_path_factory.mktemp("swept") / "all"
  return varl.population("sac", "point_mass", seeds=2, grid=GRID, out=out, **FEW)


def test_a_member_is_the_run_alone(swept):
  assert swept.finished
  assert len(swept.members) == 4
  for member in (swept.members[0], swept.members[3]):
    alone = varl.train("sac", "point_mass", seed=member.seed, **FEW, **member.values)
    names = alone.metrics[-1].keys() - {
      name for name in alone.metrics[-1] if "walltime" in name or "per_second" in name
    }
    for one, two in zip(alone.metrics, member.metrics, strict=True):
      for name in names - {"training/sps", "training/compile_time"}:
        if name in one:
          np.testing.assert_allclose(two[name], one[name], rtol=2e-3, atol=2e-3, err_msg=name)
    obs = np.ones((3, 4), np.float32)
    np.testing.assert_allclose(member.policy(obs), alone.policy(obs), atol=1e-3)


def test_what_is_left_on_disk(swept):
  best = swept.best()
  assert members.last(best) == max(members.last(member) for member in swept.groups()[members.label(best.values)])
  np.testing.assert_array_equal(varl.load_policy(swept.out)(np.ones(4)), best.policy(np.ones(4)))
  assert (swept.out / "curve.png").stat().st_size > 5_000
  for member in swept.members:
    assert [row["env_steps"] for row in records.read(member.out)] == [0, 100, 200, 300, 400]
    assert varl.evaluate(member.out, episodes=2)["eval/avg_episode_length"] == 20.0
  assert swept.returns().shape == (4, 5)
  assert "4 members, 2 settings" in repr(swept)
  assert json.loads((swept.out / "population.json").read_text())["diverged"] == []


def test_a_member_is_resumed_as_a_run(swept, tmp_path):
  own = shutil.copytree(swept.out, tmp_path / "own")
  member = own / "members" / swept.members[1].name
  longer = varl.resume(member, num_timesteps=500, compile_cache=False)
  assert [row["env_steps"] for row in longer.metrics] == [0, 100, 200, 300, 400, 500]
  with pytest.raises(ValueError, match=r"taken on by itself, to 500 environment steps where the population has 400"):
    varl.resume_population(own, num_timesteps=600, compile_cache=False)
  assert records.read(member) == longer.metrics


def test_a_member_is_written_by_one_process(swept):
  first, second = (member.out for member in swept.members[:2])
  with directory.hold(swept.out), pytest.raises(ValueError, match="all is being written by another process"):
    varl.resume(first, num_timesteps=500)
  with directory.hold(first), pytest.raises(ValueError, match="all is being written by another process"):
    varl.resume_population(swept.out)
  with directory.hold(first), directory.hold(second), pytest.raises(ValueError, match=f"{first.name} is being written"):
    varl.resume(first, num_timesteps=500)


class Killed(Exception):
  """What stands for a kill."""


class Killer(Reporter):
  def __init__(self, steps):
    self.steps = steps

  def message(self, text):
    if text.strip().startswith(f"{self.steps} steps"):
      raise Killed


def parameters(out):
  return jax.tree.leaves(varl.load_policy(out).params)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  return varl.population("sac", "point_mass", seeds=2, out=tmp_path_factory.mktemp("whole") / "out", **FEW)


@pytest.fixture(scope="module")
def cut(tmp_path_factory):
  """A population of 300 steps that was killed before its last checkpoint, each with those of 100 and 200."""
  out = tmp_path_factory.mktemp("cut") / "out"
  with pytest.raises(Killed):
    varl.population(
      "sac",
      "point_mass",
      seeds=2,
      out=out,
      report=Killer(300),
      **{**FEW, "num_timesteps": 300, "checkpoint_every": 100},
    )
  return out


def one_is_ahead(second):
  (second / "000000000200").rename(second / "000000000200.tmp")


def one_is_damaged(second):
  (second / "000000000200" / checkpoint.MANIFEST).write_text("{}")


@pytest.mark.parametrize("happened", [one_is_ahead, one_is_damaged])
@pytest.mark.filterwarnings("ignore::varl.run.checkpoint.CheckpointWarning")
def test_it_goes_on_after_a_kill_and_further_bit_for_bit(whole, cut, tmp_path, happened):
  out = shutil.copytree(cut, tmp_path / "out")
  first, second = (out / "members" / name / "checkpoints" for name in ("0-seed0", "1-seed1"))
  assert checkpoint.steps(first) == checkpoint.steps(second) == [100, 200]
  happened(second)
  found = varl.resume_population(out, num_timesteps=400, compile_cache=False)
  assert found.finished
  assert json.loads((out / "population.json").read_text())["num_timesteps"] == 400
  assert {configure.read(member.out).settings.num_timesteps for member in found.members} == {400}
  for one, two in zip(whole.members, found.members, strict=True):
    assert [row["env_steps"] for row in records.read(two.out)] == [0, 100, 200, 300, 400]
    np.testing.assert_array_equal(
      [row["eval/episode_reward"] for row in one.metrics], [row["eval/episode_reward"] for row in two.metrics]
    )
    for a, b in zip(parameters(one.out), parameters(two.out), strict=True):
      np.testing.assert_array_equal(a, b)


def test_where_every_checkpoint_is_damaged_nothing_is_changed(cut, tmp_path):
  out = shutil.copytree(cut, tmp_path / "out")
  for manifest in (out / "members" / "1-seed1" / "checkpoints").rglob(checkpoint.MANIFEST):
    manifest.write_text("{}")
  before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and path.name != directory.LOCK}
  with pytest.warns(checkpoint.CheckpointWarning), pytest.raises(ValueError, match=r"no checkpoint in .* can be read"):
    varl.resume_population(out, num_timesteps=400, compile_cache=False)
  assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(
  ("saved", "lost", "each", "expected"),
  [
    ({}, (), 2, ["ab", "cd"]),
    ({"a": [3, 4], "b": [3, 4], "c": [1, 2], "d": []}, (), 4, ["ab", "c", "d"]),  # one of more than fit before
    ({"a": [2, 3], "b": [2, 3], "c": [1, 2], "d": [1, 2]}, (), 4, ["abcd"]),  # killed between two that were saved
    ({"a": [3, 4], "b": [2, 3], "c": [2, 3], "d": [2, 3]}, (), 4, ["a", "bcd"]),  # and where one had finished
    ({"a": [1], "b": [1], "c": [], "d": []}, (), 4, ["ab", "cd"]),
    ({"a": [2, 3], "b": [], "c": [2, 3], "d": [2, 3]}, ("b",), 4, ["abcd"]),
    ({"a": [], "b": [], "c": [2, 3], "d": [3, 4]}, ("a", "b"), 3, ["abc", "d"]),
  ],
)
def test_who_is_resumed_together(saved, lost, each, expected):
  settings = types.SimpleNamespace(iterations=4, steps_per_iteration=1)
  crew = types.SimpleNamespace(runs=dict.fromkeys("abcd"), lost=set(lost), each=each, settings=settings)
  assert ["".join(names) for names in Crew.chunks(crew, saved)] == expected


def test_a_finished_population_is_returned_as_it_is(swept):
  said = []

  class Listener(Reporter):
    def message(self, text):
      said.append(text)

  again = varl.resume_population(swept.out, report=Listener(), compile_cache=False)
  assert not any("compiled" in text for text in said)
  np.testing.assert_array_equal(again.returns()[0], swept.returns()[0])


def test_chunks_and_ranges(tmp_path):
  found = varl.population(
    "sac", "point_mass", seeds=[3], ranges={"learning_rate": (1e-4, 1e-2), "tau": (0.0, 0.5)}, draws=3, chunk=2,
    **{**FEW, "num_timesteps": 200},
  )  # fmt: skip
  assert [member.seed for member in found.members] == [3, 3, 3]
  rates = [member.values["learning_rate"] for member in found.members]
  assert len(set(rates)) == 3
  assert all(1e-4 < rate < 1e-2 for rate in rates)
  last = found.members[2]
  alone = varl.train("sac", "point_mass", seed=3, **{**FEW, "num_timesteps": 200}, **last.values)
  np.testing.assert_allclose(
    last.metrics[-1]["eval/episode_reward"], alone.metrics[-1]["eval/episode_reward"], rtol=1e-4
  )


def test_one_that_diverges_leaves_the_others(tmp_path):
  out = tmp_path / "lost"
  found = varl.population(
    "sac", "point_mass", seeds=1, grid={"learning_rate": [1e-3, 1e30]}, out=out, **{**FEW, "checkpoint_every": 100}
  )
  well, lost = found.members
  assert (well.diverged, lost.diverged) == (False, True)
  assert len(well.metrics) == 5 > len(lost.metrics)
  assert found.best().name == well.name
  assert np.isnan(found.returns()[1, -1])
  assert json.loads((out / "population.json").read_text())["diverged"] == [lost.name]
  assert not (lost.out / "policy").exists()
  again = varl.resume_population(out, compile_cache=False)
  assert [member.diverged for member in again.members] == [False, True]


def test_where_all_diverge_it_ends_there(tmp_path, capsys):
  out = tmp_path / "lost"
  few = {**FEW, "num_timesteps": 2_000}
  found = varl.population("sac", "point_mass", seeds=2, grid={"learning_rate": [1e30]}, out=out, **few)
  assert found.finished
  assert all(member.diverged for member in found.members)
  assert {records.read(member.out)[-1]["env_steps"] for member in found.members} <= {100, 200}
  assert cli.main(["resume", str(out)]) == 1
  assert "all 2 members turned non-finite" in capsys.readouterr().err


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"grid": {"learnin_rate": [1.0]}}, "no field 'learnin_rate'.*learning_rate"),
    ({"grid": {"critics": [1, 2]}}, "critics shapes the program"),
    ({"grid": {"policy": [1.0]}}, "policy='tanh_gaussian' is no number"),
    ({"grid": {"learning_rate": []}}, "learning_rate takes one or more numbers"),
    ({"grid": {"learning_rate": [1e-3, 1e-3]}}, "a value twice"),
    ({"grid": {"gamma": [0.9, 1.5]}}, r"gamma lies in \[0, 1"),
    ({"ranges": {"gamma": (0.9, 0.99)}}, "random search needs ranges and how many draws"),
    ({"draws": 3}, "random search needs ranges and how many draws"),
    ({"ranges": {"gamma": (0.99, 0.9)}, "draws": 2}, "the lower one first"),
    ({"ranges": {"gamma": (0.8, 0.9)}, "grid": {"gamma": [0.5]}, "draws": 2}, "gamma: in the grid and among"),
    ({"seeds": 0}, "seeds is a whole number >= 1, got 0"),
    ({"seeds": [1, 1]}, "seeds are different"),
    ({"seeds": [-1]}, "seed is a whole number"),
    ({"chunk": 0}, "chunk is a whole number >= 1, got 0"),
    ({"num_devices": 2}, "members are mapped over the devices"),
  ],
)
def test_what_cannot_be_mapped_is_refused(arguments, message, tmp_path):
  with pytest.raises(ValueError, match=message):
    varl.population("sac", "point_mass", out=tmp_path / "new", **{"seeds": 1, **FEW, **arguments})
  assert not (tmp_path / "new").exists()


def test_what_is_there_is_kept(swept):
  with pytest.raises(ValueError, match="exists already"):
    varl.population("sac", "point_mass", seeds=1, out=swept.out, **FEW)
  with pytest.raises(ValueError, match="exists already"):
    varl.train("sac", "point_mass", out=swept.out, **FEW)
  with pytest.raises(ValueError, match="is no population"):
    varl.resume_population(swept.members[0].out)


@pytest.mark.parametrize(
  ("tokens", "message"),
  [
    (["sweep"], "varl sweep needs an algorithm"),
    (["sweep", "sac"], "varl sweep needs --env"),
    (["sweep", "sac", "--env", "point_mass", "--grid", "learning-rate"], "--grid is FIELD=NUMBER"),
    (["sweep", "sac", "--env", "point_mass", "--grid", "gamma=a,b"], "--grid is FIELD=NUMBER"),
    (["sweep", "sac", "--env", "point_mass", "--grid", "gamma=1", "--grid", "gamma=2"], "names gamma twice"),
    (["sweep", "sac", "--env", "point_mass", "--seeds", "0"], "--seeds"),
    (["sweep", "sac", "--env", "point_mass", "--seed", "1"], "--seed"),
    (["resume", "OUT", "--num-timesteps", "200"], "is less than the 400 environment steps that the run in"),
  ],
)
def test_the_command_line_says_what_is_wrong(tokens, message, swept, capsys):
  assert cli.main([str(swept.out) if token == "OUT" else token for token in tokens]) == 2
  error = capsys.readouterr().err
  assert message in error
  assert len(error.strip().splitlines()) == 1


def test_the_command_line_sweeps_and_goes_on(tmp_path, capsys):
  out = tmp_path / "swept"
  tokens = [
    "sweep", "sac", "--env", "point_mass", "--seeds", "2", "--grid", "learning-rate=1e-3,3e-3", "--out", str(out),
    "--num-timesteps", "200", "--num-envs", "4", "--warm-up", "100", "--batch-size", "8", "--hidden", "8",
    "--eval-every", "100", "--episode-length", "20", "--eval-episodes", "2", "--replay-capacity", "200",
    "--no-compile-cache", "--no-preset", "--resume-if-possible",
  ]  # fmt: skip
  assert cli.main([*tokens, "--stop-after", "0.000001s"]) == 124
  assert {records.read(path)[-1]["env_steps"] for path in (out / "members").iterdir()} == {0}
  assert cli.main([*tokens, "--grid", "tau=0.1,0.2"]) == 2
  assert "is another one: it has the members 0-learning_rate=0.001-seed0," in capsys.readouterr().err
  assert cli.main([*tokens, "--critics", "3"]) == 2
  assert "is another one: critics=2 there, 3 here" in capsys.readouterr().err
  assert cli.main(tokens) == 0
  said = capsys.readouterr().out
  assert "4 members, 4 at a time" in said
  assert {records.read(path)[-1]["env_steps"] for path in (out / "members").iterdir()} == {200}
  assert "learning_rate=0.003" in said
  assert cli.main(["compare", str(out)]) == 0
  table = capsys.readouterr().out
  assert all(f"sac on point_mass (learning_rate={rate})" in table for rate in ("0.001", "0.003"))
  assert cli.main(["compare", *map(str, sorted((out / "members").iterdir()))]) == 0
  assert capsys.readouterr().out == table
  assert cli.main(["plot", str(out), "--out", str(tmp_path / "curves.png")]) == 0
  assert cli.main(["eval", str(out)]) == 2
  assert f"is a population and no run: give one of its members, such as {out}/members/0-" in capsys.readouterr().err
  assert cli.main(["sweep", "--help"]) == 0
  assert "varl sweep ALGORITHM --env ENV" in capsys.readouterr().out


@pytest.mark.parametrize("flags", [["--distributed", "auto"], ["--save-best"], ["--stop-at", "8"]])
def test_what_is_of_single_runs_is_refused(flags, tmp_path, capsys):
  (tmp_path / "population.json").write_text("{}")
  assert cli.main(["resume", str(tmp_path), *flags]) == 2
  assert "are of single runs, not of a population" in capsys.readouterr().err

"""The shipped settings: every file is readable and every value a valid setting."""

import dataclasses
import pathlib
import subprocess
import sys

import pytest

from varl import agents, presets
from varl.envs import catalog
from varl.loop.settings import Settings
from varl.run import configure


def test_every_algorithm_has_presets_and_every_preset_an_algorithm():
  assert set(presets.algorithms()) == set(agents.AGENTS)


@pytest.mark.parametrize("algorithm", presets.algorithms())
def test_every_preset_is_a_configuration_for_an_environment_that_exists(algorithm):
  tables = presets.load(algorithm)
  assert next(iter(tables)) == "default"
  known = {field.name for field in dataclasses.fields(agents.load(algorithm).Config)}
  known |= {field.name for field in dataclasses.fields(Settings)}
  for env, values in tables.items():
    assert env == "default" or env in catalog.CATALOG
    assert set(values) <= known
    run = configure.resolve(algorithm, env)  # checks every value
    for name, value in presets.preset(algorithm, env).items():
      found = getattr(run.settings, name) if hasattr(run.settings, name) else getattr(run.config, name)
      assert found == (tuple(value) if isinstance(value, list) else value)


def test_an_environments_table_overrides_the_default(monkeypatch):
  text = "[default]\na = 1\nb = [2, 3]\n[pole]\nb = 4\n"
  monkeypatch.setattr(presets, "_text", lambda algorithm: text)
  assert presets.load("sac") == {"default": {"a": 1, "b": [2, 3]}, "pole": {"b": 4}}
  assert presets.preset("sac", "pole") == {"a": 1, "b": 4}
  assert presets.preset("sac", "elsewhere") == {"a": 1, "b": [2, 3]}
  presets.load("sac")["default"]["a"] = 9
  assert presets.preset("sac", "elsewhere")["a"] == 1


def test_an_algorithm_without_presets_is_an_error_that_lists_those_with_some():
  with pytest.raises(ValueError, match=r"no presets for algorithm 'sacc'; there are presets for .*sac"):
    presets.preset("sacc", "reacher")


def test_importing_it_imports_nothing_heavy():
  program = "import sys; from varl import presets; presets.load('sac'); print({'jax', 'numpy'} & set(sys.modules))"
  root = pathlib.Path(presets.__file__).parents[2]
  done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=root, check=True)
  assert done.stdout.strip() == "set()"


def test_an_environment_by_its_source_has_the_preset_of_its_short_name():
  by_source, short = (
    configure.resolve("sql_discrete", "gymnax:CartPole-v1"),
    configure.resolve("sql_discrete", "cartpole"),
  )
  assert by_source.settings == short.settings != Settings()
  assert by_source.config == short.config
  assert by_source.env == "gymnax:CartPole-v1"
  assert configure.resolve("sac", "brax").settings == configure.resolve("sac", "no preset of this name").settings

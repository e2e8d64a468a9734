"""The pages of the algorithms, driven by the list of them: their form, and that what they name is so."""

import ast
import contextlib
import dataclasses
import functools
import importlib
import inspect
import itertools
import pathlib
import re
import shlex
import types

import jax
import pytest
from conftest import PROBLEMS, acted, expert, prepared, problems, small, transitions

import varl
from varl import agents, cli, components, presets
from varl.envs import spec
from varl.loop.settings import Settings
from varl.loop.trainer import make_trainer
from varl.run import configure, epochs, training

ROOT = pathlib.Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "algorithms"
SHARED = ("index", "settings", "policy_gradients")
PAGES = (*agents.AGENTS, *SHARED)
SECTIONS = ["Design", "Equations", "Logged metrics", "Settings", "Details that decide whether it works", "Results"]
CURVES = ROOT / "experiments" / "results" / "curves"


@functools.cache
def text(page):
  return (FOLDER / f"{page}.md").read_text()


def section(page, title):
  """The text below a heading of the second level."""
  return re.split(r"^## ", text(page).partition(f"\n## {title}\n")[2], flags=re.MULTILINE)[0]


def rows(markdown, first):
  """The rows of the tables whose first column has this title, as tuples of cells."""
  found = []
  for table in re.findall(r"(?:^\|.*\n)+", markdown, re.MULTILINE):
    lines = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table.splitlines()]
    assert len({len(line) for line in lines}) == 1, table
    if lines[0][0] == first:
      found += lines[2:]
  return found


def code(markdown):
  """What stands in backticks outside of listings."""
  return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", markdown, flags=re.DOTALL | re.MULTILINE))


def named(cell):
  """The one name in backticks with which a cell begins."""
  match = re.match(r"`(\w+)`", cell)
  assert match, f"{cell!r} names nothing"
  return match[1]


# Form


def test_every_algorithm_has_a_page_and_every_page_an_algorithm():
  assert sorted(path.stem for path in FOLDER.glob("*.md")) == sorted(PAGES)
  listed = re.findall(r"^\| .*?\]\((\w+)\.md\)", text("index"), re.MULTILINE)
  assert sorted(name for name in listed if name in agents.AGENTS) == sorted(agents.AGENTS)
  toctree = re.search(r"```\{toctree\}\n(?::.*\n)*\n(.*?)```", text("index"), re.DOTALL)
  assert sorted(toctree[1].split()) == sorted(set(PAGES) - {"index"})


@pytest.mark.parametrize("name", agents.AGENTS)
def test_a_page_has_its_sections_in_order(name):
  head = text(name).partition("\n## ")[0]
  assert re.match(rf"# .+ \({name}\)\n", head)
  assert re.search(r"https://arxiv\.org/abs/\d{4}\.\d{5}", head)
  assert f"../../varl/agents/{name}.py" in head
  assert re.findall(r"^## (.*)$", text(name), re.MULTILINE) == SECTIONS
  design = section(name, "Design")
  axes = [row[0] for row in rows(design, "axis")]
  assert axes[:4] == ["prior", "posterior", "value", "temperature"]
  beside = {
    "model": components.ModelConfig,
    "rows": components.ModelConfig | components.DemonstrationConfig,
    "reward": components.CorrectionConfig | components.LearnerConfig | agents.load("options").Config,
  }
  assert all(issubclass(agents.load(name).Config, beside[axis]) for axis in axes[4:])
  assert axes[4:] == [axis for axis in beside if axis in axes]
  assert ("model" in axes) == issubclass(agents.load(name).Config, components.ModelConfig)
  assert all(re.search(r"\]\(\.\./\.\./varl/[\w/]+\.py\)", row[2]) for row in rows(design, "axis"))
  assert re.search(r"^\$\$[^$]+\$\$$", design, re.MULTILINE)


@pytest.mark.parametrize("name", agents.AGENTS)
def test_its_commands_start_a_run(name, monkeypatch):
  """Everything up to the training itself, on an environment that the algorithm has a preset for."""
  started = []

  def train(algorithm, env, *, out=None, overwrite=False, report=None, compile_cache=True, **settings):
    beside = ("log", "save_best", "stop_at", "stop_after", "profile")
    started.append(configure.resolve(algorithm, env, **{k: v for k, v in settings.items() if k not in beside}))
    return types.SimpleNamespace(finished=True)

  monkeypatch.setattr(varl, "train", train)
  monkeypatch.setattr(training, "train", train)
  scope = {}
  for listing in re.findall(r"^```python\n(.*?)^```", text(name), re.DOTALL | re.MULTILINE):
    exec(listing, scope)
  for command in re.findall(r"^varl (train .*)$", text(name), re.MULTILINE):
    assert cli.main(shlex.split(command)) == 0
  assert [run.algorithm for run in started] == [name, name]
  assert started[0] == started[1]
  assert started[0].env in presets.load(name)


@pytest.mark.parametrize("name", agents.AGENTS)
def test_the_results_are_the_records(name):
  results = section(name, "Results")
  assert f"```{{include}} ../results/algorithms/{name}.md\n" in results
  pictures = re.findall(r"!\[[^\]]+\]\(\.\./\.\./experiments/results/curves/(\w+)/\w+\.png\)", text(name))
  recorded = {folder.parent.name for folder in CURVES.glob(f"*/{name}")}
  assert set(pictures) <= recorded
  assert bool(pictures) == bool(recorded)


# What pages name


def resolve(reference):
  """The object that `module.attribute`, relative to varl, is; with `(argument=...)` after it, it takes these."""
  name, called, arguments = re.fullmatch(r"(?:varl\.)?([\w.]+)(\((.*)\))?", reference).groups()
  parts = name.split(".")
  for length in range(len(parts) + 1):  # a module's function may have the name of the file that it is in
    with contextlib.suppress(ModuleNotFoundError, AttributeError):
      module = importlib.import_module(".".join(["varl", *parts[:length]]))
      found = functools.reduce(getattr, parts[length:], module)
      break
  else:
    raise AttributeError(f"there is no varl.{name}")
  if called and arguments.strip(". "):
    call = ast.parse(f"f({arguments})", mode="eval").body
    inspect.signature(found).bind_partial(*call.args, **{keyword.arg: None for keyword in call.keywords})
  return found


ROOMS = {path.stem for path in (ROOT / "varl").iterdir() if path.is_dir() or path.suffix == ".py"}


def is_reference(span):
  """Whether what stands in backticks is a name of varl's."""
  match = re.fullmatch(r"(\w+)(\.\w+)+(\(.*\))?", span)
  return bool(match) and (match[1] in ROOMS or match[1] == "varl") and not span.endswith(".py")


def test_references_are_told_from_other_code():
  assert is_reference("losses.soft_value")
  assert is_reference("values.q_value(regularised=False)")
  assert not is_reference("metrics.csv")
  assert resolve("agents.sac.Config.gamma") == 0.99
  assert resolve("varl.policies.Head.decouple")
  for wrong in ("losses.soft_vale", "agents.sac.Config.gama"):
    with pytest.raises(AttributeError):
      resolve(wrong)
  with pytest.raises(TypeError):
    resolve("values.q_value(regularized=False)")


@pytest.mark.parametrize("page", PAGES)
def test_every_reference_to_code_resolves(page):
  spans = code(text(page))
  for reference in filter(is_reference, spans):
    resolve(reference)
  for path in (span for span in spans if re.fullmatch(r"(tests|experiments|varl|notebooks|docs)/[\w./]+", span)):
    assert (ROOT / path).exists(), path
  for module in re.findall(r"python -m ([\w.]+)", text(page)):
    assert (ROOT / f"{module.replace('.', '/')}.py").exists() or (ROOT / module.replace(".", "/")).is_dir(), module
  # A dotted name that is no reference is a file or an extra of a batch.
  others = [s for s in spans if re.fullmatch(r"[a-z_]+(\.\w+)+(\(.*\))?", s) and not is_reference(s)]
  assert all(re.search(r"\.(csv|jsonl|toml|json)$", s) or s.startswith("experiments.") for s in others), others


@pytest.mark.parametrize("page", PAGES)
def test_links_and_includes_resolve(page):
  targets = re.findall(r"\]\((?!https?:|#)([^)#\s]+)(?:#([\w-]+))?\)", text(page))
  targets += [(path, "") for path in re.findall(r"^```\{include\} (\S+)$", text(page), re.MULTILINE)]
  for target, anchor in targets:
    path = FOLDER / target
    assert path.exists(), target
    if anchor:
      headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
      slugs = [re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings]
      assert anchor in slugs, f"{target}#{anchor}"


@pytest.mark.parametrize("name", agents.AGENTS)
def test_the_equations_name_their_code_and_what_holds_them(name, record_property):
  equations = section(name, "Equations")
  table = rows(equations, "equation")
  assert len(table) >= 4
  for _, source, where in table:
    assert source
    references = [reference for reference in code(where) if is_reference(reference)]
    assert references, where
  assert any((ROOT / span).exists() for span in code(equations) if span.startswith("tests/"))
  assert f"python -m experiments.oracles --algorithms {name}" in equations
  record_property("equations", len(table))
  print(f"{name}: {len(table)} equations")


# Metrics


def choices(module, field):
  """The words that a field of the Config takes, which it says where it is given another one."""
  for env in problems(module):
    given = {"demonstrations": expert(spec(env))} if hasattr(module.Config, "demonstrations") else {}
    given |= {"withheld": 1} if hasattr(module.Config, "withheld") else {}
    with contextlib.suppress(ValueError):  # of the other kind of actions
      module.make(spec(env), module.Config(**given))
      with pytest.raises(ValueError, match=rf"{field} is .* got '\?'") as refused:
        module.make(spec(env), module.Config(**given, **{field: "?"}))
      said = re.search(r" is (.*?)[,;] got", str(refused.value))[1]
      return sorted(set(re.findall(r"[a-z]\w+", said)) - {"one", "of", "or", "number", "standard", "deviations"})
  raise AssertionError(f"{module.name}: it takes neither kind of actions")


def variants(module):
  """The default Config, and those that differ in one switch or word, or in one weight that is off."""
  fields = {field.name: getattr(module.Config(), field.name) for field in dataclasses.fields(module.Config)}
  shared = {field.name for field in dataclasses.fields(components.Config)}
  yield {}
  for field, value in fields.items():
    if field in shared:  # of every algorithm; none of these is seen in metrics
      continue
    if isinstance(value, bool):
      yield {field: not value}
    elif isinstance(value, str):
      yield from ({field: word} for word in choices(module, field) if word != value)
    elif value == 0.0:
      yield {field: 0.5}


def reported(module, env, change):
  """The names of the metrics that the agent's update reports; None where the algorithm refuses the configuration."""
  words = {name: value for name, value in dataclasses.asdict(module.Config()).items() if isinstance(value, str)}
  try:
    agent = module.make(spec(env), small(module, spec(env), **words | change))
  except ValueError:
    return None

  def metrics():
    state, key = agent.init(jax.random.key(0)), jax.random.key(1)
    batch = transitions(0, (agent.sequence, 8) if agent.sequence else (8,), agent.spec)
    batch = batch if agent.sequence else acted(agent, batch)
    if agent.on_policy:
      batch = prepared(agent, state, batch)
    elif agent.sequence:
      batch = batch._replace(extras={"log_prob": batch.reward})
    else:
      batch = batch._replace(extras=agent.act(state.params, agent.carry(8), batch.obs, key)[2])
    return agent.update(state, batch, key)[1]

  return set(jax.eval_shape(metrics))


def holds(condition, config, discrete):
  """Whether a configuration is one of those that a row is "only with"."""
  if condition in ("continuous actions", "discrete actions"):
    return discrete == (condition == "discrete actions")
  field, sign, value = re.fullmatch(r"`(\w+) ?(=|≠|>) ?(.+)`", condition).groups()
  value, given = ast.literal_eval(value), getattr(config, field)
  return {"=": given == value, "≠": given != value}[sign] if sign != ">" else given > value


def elsewhere(name):
  """The fields that an algorithm listed before this one has, too: they are varied there."""
  before = itertools.takewhile(lambda other: other != name, agents.AGENTS)
  return {field.name for other in before for field in dataclasses.fields(agents.load(other).Config)}


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", agents.AGENTS)
def test_the_metrics_are_those_of_the_update(name, every):
  """In each configuration, those of the rows without a condition, and of the rows whose condition it meets.

  A field that no row names is varied where it is first met; with `-m slow` in every algorithm.
  """
  module = agents.load(name)
  left = set() if every else elsewhere(name)
  table = {}
  for cell, meaning, unit, reading in rows(section(name, "Logged metrics"), "metric"):
    assert meaning
    assert unit
    assert reading
    only = re.match(r"Only with (.*?): ", meaning)
    table[named(cell)] = [re.split(r", | and ", part) for part in only[1].split(" or ")] if only else [[]]
    left -= set(re.findall(r"`(\w+) ?[=≠>]", only[1])) if only else set()
  met, count = dict.fromkeys(table, False), 0
  for env, change in itertools.product(problems(module), variants(module)):
    found = None if set(change) & left else reported(module, env, change)
    if found is None:
      continue
    config, discrete = module.Config(**change), spec(env).discrete
    expected = {
      metric for metric, ways in table.items() if any(all(holds(c, config, discrete) for c in way) for way in ways)
    }
    assert found == expected, (change, sorted(found ^ expected))
    met = {metric: before or metric in expected for metric, before in met.items()}
    count += 1
  assert count
  assert all(met.values()), met


def test_the_metrics_of_the_loop():
  """What rows of `metrics.csv` hold beside the update's own."""
  env = PROBLEMS[0]
  agent = agents.load("sac").make(spec(env))
  shapes = jax.eval_shape(make_trainer(env, agent, Settings()).run, jax.random.key(0))[1]
  own = {f"training/{name}" for name in reported(agents.load("sac"), env, {})}
  listed = {
    named(cell.replace("/", "_")): cell.strip("`") for cell, *_ in rows(section("settings", "Metrics"), "metric")
  }
  found = shapes.keys() - own - {"iterations"}  # of `run` alone: no column of the file
  assert found <= set(listed.values()), found - set(listed.values())
  source = inspect.getsource(epochs)
  rest = set(listed.values()) - found
  assert rest == {name for name in set(re.findall(r'"((?:training|eval)/\w+)"', source)) - found - own}


# Settings


def listed_settings(markdown):
  """The rows of tables of settings, {field: default}."""
  found = {}
  for cell, default, effect in rows(markdown, "field"):
    assert effect
    field = named(cell)
    assert field not in found
    found[field] = ast.literal_eval(default.strip("`"))
  return found


@pytest.mark.parametrize("name", agents.AGENTS)
def test_the_settings_are_the_configs(name):
  Config = agents.load(name).Config
  defaults = {field.name: field.default for field in dataclasses.fields(Config)}
  listed = listed_settings(section(name, "Settings"))
  assert listed == {field: defaults.get(field) for field in listed}
  own = set(inspect.get_annotations(Config))
  assert own <= listed.keys(), own - listed.keys()
  shared = re.findall(r"^### `components\.(\w+)`$", text("settings"), re.MULTILINE)
  extended = {base.__name__ for base in Config.__mro__[1:-1]}
  assert extended <= set(shared)
  linked = set(re.findall(r"settings\.md#components(\w+)", section(name, "Settings")))
  assert linked == {base.lower() for base in extended}


def test_the_shared_settings_are_the_components_and_the_loops():
  parts = re.split(r"^### `components\.(\w+)`$", section("settings", "Hyper-parameters"), flags=re.MULTILINE)[1:]
  for part, markdown in zip(parts[::2], parts[1::2], strict=True):
    Config = getattr(components, part)
    own = {field.name: field.default for field in dataclasses.fields(Config)}
    assert listed_settings(markdown) == {field: own[field] for field in inspect.get_annotations(Config)}
  loop = {field.name: field.default for field in dataclasses.fields(Settings)}
  assert listed_settings(section("settings", "The loop")) == loop

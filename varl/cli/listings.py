"""What there is, and whether it works: `varl list`, `varl presets`, `varl check-env` and `varl doctor`."""

from varl import agents
from varl.cli.shared import SEED, command
from varl.envs import catalog, registry


def listing(tokens: list[str]) -> int:
  """`varl list`: the algorithms and the environments."""
  command("list", "  varl list\n  varl list | grep discrete").parse(tokens)
  print("algorithms")
  for name, text in agents.descriptions().items():
    print(f"  {name:26} {text}")
  print("environments")
  for name, entry in catalog.CATALOG.items():
    backends = f" [{', '.join(entry.backends)}]" if entry.backends else ""
    lacks = f" ({lacks})" if (lacks := catalog.missing(name)) else ""
    print(f"  {name:26} {entry.description}{backends}{lacks}")
  return 0


def presets(tokens: list[str]) -> int:
  """`varl presets`: the tuned settings."""
  parser = command("presets", "  varl presets\n  varl presets sac")
  parser.add_argument("algorithm", nargs="?", metavar="ALGORITHM", help="one of `varl list` (default: all)")
  arguments = parser.parse(tokens)
  from varl import presets as tuned

  names = agents.names() if arguments.algorithm is None else [agents.check_name(arguments.algorithm)]
  for name in names:
    for env, values in tuned.load(name).items():
      print(f"[{name} {env}]")
      for key, value in values.items():
        print(f"  {key} = {value}")
  return 0


def check_env(tokens: list[str]) -> int:
  """`varl check-env`: the contracts of an environment; status 1 where one is broken."""
  parser = command(
    "check-env",
    """  varl check-env reacher
  varl check-env my_module:MyEnvironment""",
    description="Look at every contract that varl has with an environment, by tracing it and by running it for some "
    "seconds. Exit status 1 where one is broken.",
  )
  parser.add_argument("env", metavar="ENV", help="an environment (`varl list`), or package.module:factory")
  parser.add_argument("--backend", help="physics backend of a Brax environment (default: its own)")
  parser.add_argument("--seed", type=SEED, default=0, metavar="N", help="of the keys (default: 0)")
  arguments = parser.parse(tokens)
  registry.check_name(arguments.env, arguments.backend)
  from varl.envs.door import check

  report = check(arguments.env, arguments.backend, seed=arguments.seed)
  print(report)
  return 0 if report.kept else 1


def doctor(tokens: list[str]) -> int:
  """`varl doctor`: versions and devices; status 1 where something is wrong with them."""
  command("doctor", "  varl doctor").parse(tokens)
  from varl.run.doctor import print_report

  return 0 if print_report() else 1

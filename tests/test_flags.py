"""What a new user mistypes, by verb: one line that says what came and what is allowed, exit 2, nothing touched."""

import pytest

from varl import cli

TRAIN = ("train", "sac", "--env", "point_mass")
MISTAKES = [
  (("evaluate",), "did you mean"),
  (("trian", "sac"), "did you mean 'train'"),
  (("--env", "point_mass"), "--env comes before the command"),
  (("train",), "varl train needs an algorithm: sac"),
  (("train", "--env", "point_mass"), "varl train needs an algorithm"),
  (("train", "sack", "--env", "point_mass"), "did you mean 'sac'"),
  (("train", "sac"), "varl train needs --env"),
  (("train", "sac", "--env"), "--env needs a value"),
  (("train", "sac", "--env", "pointmass"), "did you mean 'point_mass'"),
  ((*TRAIN, "--backend", "mjz"), "backend"),
  ((*TRAIN, "--num-timestep", "100"), "did you mean '--num-timesteps'"),
  ((*TRAIN, "--num-timesteps"), "--num-timesteps needs a value"),
  ((*TRAIN, "--num-timesteps", "many"), "a whole number (such as 1000, 1_000 or 1e3), got 'many'"),
  ((*TRAIN, "--num-timesteps", "1.5"), "a whole number (such as 1000, 1_000 or 1e3), got '1.5'"),
  ((*TRAIN, "--num-timesteps", "-5"), "num_timesteps is a whole number > 0, got -5"),
  ((*TRAIN, "--seed", "-1"), "--seed is a whole number in [0, 2^32), got '-1'"),
  ((*TRAIN, "--seed", "1", "--seed", "2"), "--seed is given twice"),
  ((*TRAIN, "--learning-rate", "fast"), "--learning-rate is a number, got 'fast'"),
  ((*TRAIN, "--learning-rate", "-1"), "learning_rate is a finite number > 0, got -1.0"),
  ((*TRAIN, "--hidden", "64x64"), "takes values such as 64,64 or 64 64"),
  ((*TRAIN, "--layer-norm", "true"), "--layer-norm takes no value, got 'true'"),
  ((*TRAIN, "--overwrite=yes"), "--overwrite takes no value"),
  ((*TRAIN, "extra"), "unexpected argument 'extra'"),
  ((*TRAIN, "gamma=0.9"), "did you mean '--gamma'"),
  ((*TRAIN, "--policy", "beta"), "policy is one of"),
  ((*TRAIN, "--num-timesteps", "100", "--warm-up", "5000"), "nothing would be learned"),
  (("train", "ppo", "--env", "point_mass", "--warm-up", "10"), "warm_up cannot be set"),
  (("resume",), "varl resume needs OUT"),
  (("resume", "nowhere"), "nowhere"),
  (("resume", "nowhere", "--num-timesteps", "0"), "--num-timesteps is a whole number >= 1, got '0'"),
  (("eval", "nowhere"), "nowhere"),
  (("eval", "nowhere", "--episodes", "0"), "--episodes is a whole number >= 1, got '0'"),
  (("render", "nowhere"), "varl render needs --out"),
  (("render", "nowhere", "--out", "x.avi"), ".html"),
  (("render", "nowhere", "--out", "x.html"), "nowhere"),
  (("list", "sac"), "unexpected argument 'sac'"),
  (("presets", "sack"), "did you mean 'sac'"),
  (("check-env",), "varl check-env needs ENV"),
  (("check-env", "reachr"), "did you mean 'reacher'"),
  (("doctor", "--fix"), "unknown flag --fix"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=[" ".join(words) for words, _ in MISTAKES])
def test_a_mistake_is_one_line_and_exit_2(words, message, capsys, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert cli.main(list(words)) == 2
  said = capsys.readouterr()
  assert said.out == ""
  assert said.err.startswith("varl: error: ")
  assert said.err.count("\n") == 1
  assert message in said.err
  assert "; '" not in said.err
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  ("words", "shown"),
  [
    ((), "varl train"),
    (("--help",), "varl train"),
    (("train", "--help"), "--num-timesteps"),
    (("train", "sac", "--help"), "--entropy-per-dimension"),
    (("train", "sac", "--env", "inverted_pendulum", "--help"), "those of the preset of sac on inverted_pendulum"),
    (("eval", "--help"), "--episodes"),
    (("render", "--help"), "FILE.html"),
  ],
)
def test_help_is_no_error(words, shown, capsys):
  try:
    code = cli.main(list(words))
  except SystemExit as error:
    code = error.code
  assert code in (0, None)
  assert shown in capsys.readouterr().out


@pytest.mark.parametrize(
  ("words", "name", "value"),
  [
    (("--num-timesteps", "1e5"), "num_timesteps", 100_000),
    (("--num-timesteps=1_000",), "num_timesteps", 1000),
    (("--hidden", "64,64"), "hidden", (64, 64)),
    (("--hidden", "64", "32"), "hidden", (64, 32)),
    (("--learning_rate", "1e-3"), "learning_rate", 1e-3),
    (("--entropy-target", "-2"), "entropy_target", -2.0),
    (("--entropy-target", "none"), "entropy_target", None),
    (("--layer-norm",), "layer_norm", True),
    (("--no-normalize-observations",), "normalize_observations", False),
  ],
)
def test_values_as_people_write_them(words, name, value, monkeypatch, tmp_path):
  seen = {}

  def train(*_, **given):
    seen.update(given)
    raise ValueError("enough")

  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr("varl.run.training.train", train)
  assert cli.main([*TRAIN, *words]) == 2
  assert (name, seen[name], type(seen[name])) == (name, value, type(value))

"""The metrics of a run: what is written is what is read, whatever cuts the writing short."""

import csv
import json
import math
import os
import pathlib
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest

from varl.report import records
from varl.run import loggers


def _write(out, rows, **kwargs):
  with loggers.MetricsWriter(out, **{"tensorboard": False} | kwargs) as writer:
    for row in rows:
      writer.write(row)


def _write_many(writer, steps):
  for step in steps:
    writer.write({"env_steps": step, "a": step})


def _csv(out):
  with open(out / "metrics.csv", newline="") as file:
    return list(csv.reader(file))


def test_rows_come_back_and_env_steps_is_the_first_column(tmp_path):
  _write(tmp_path / "new" / "run", [{"b": 2.5, "env_steps": 10, "a": 1}, {"a": 3, "b": -1e-30, "env_steps": 20}])
  out = tmp_path / "new" / "run"
  assert records.read(out) == [{"env_steps": 10, "a": 1.0, "b": 2.5}, {"env_steps": 20, "a": 3.0, "b": -1e-30}]
  assert type(records.read(out)[0]["env_steps"]) is int
  assert _csv(out) == [["env_steps", "a", "b"], ["10", "1.0", "2.5"], ["20", "3.0", "-1e-30"]]
  assert (out / "metrics.jsonl").read_text().splitlines()[0] == '{"env_steps": 10, "a": 1.0, "b": 2.5}'


def test_numpy_and_jax_scalars_are_kept_to_the_last_bit(tmp_path):
  import jax.numpy as jnp

  _write(tmp_path, [{"env_steps": np.int64(2**40), "x": np.float32(0.1), "y": jnp.float32(1 / 3), "n": jnp.int32(7)}])
  (row,) = records.read(tmp_path)
  assert row == {"env_steps": 2**40, "n": 7.0, "x": float(np.float32(0.1)), "y": float(np.float32(1 / 3))}


def test_a_run_that_does_not_exist_has_no_rows(tmp_path):
  assert records.read(tmp_path / "nothing") == []


def test_non_finite_numbers_are_strict_json_and_come_back(tmp_path):
  _write(tmp_path, [{"env_steps": 1, "a": math.nan, "b": math.inf, "c": -math.inf}])

  def refuse(constant):
    raise AssertionError(f"not strict JSON: {constant}")

  line = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=refuse)
  assert line == {"env_steps": 1, "a": "NaN", "b": "Infinity", "c": "-Infinity"}
  (row,) = records.read(tmp_path)
  assert math.isnan(row["a"])
  assert (row["b"], row["c"]) == (math.inf, -math.inf)
  assert _csv(tmp_path)[1] == ["1", "nan", "inf", "-inf"]


def test_a_new_column_rewrites_the_header_and_keeps_the_earlier_rows(tmp_path):
  _write(tmp_path, [{"env_steps": 1, "m": 1}, {"env_steps": 2, "m": 2, "a": 5}, {"env_steps": 3, "a": 6}])
  assert _csv(tmp_path) == [["env_steps", "a", "m"], ["1", "", "1.0"], ["2", "5.0", "2.0"], ["3", "6.0", ""]]
  assert records.read(tmp_path)[0] == {"env_steps": 1, "m": 1.0}
  assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.csv", "metrics.jsonl"]


@pytest.mark.parametrize(
  ("row", "message"),
  [
    ({"a": 1.0}, "needs 'env_steps'"),
    ({"env_steps": 1.5}, "must be an integer, got 1.5"),
    ({"env_steps": 1, "a": "fast"}, "metric 'a' must be one number, got 'fast'"),
    ({"env_steps": 1, "a": np.zeros(3)}, "metric 'a' must be one number"),
  ],
)
def test_a_row_that_is_none_is_refused_and_not_written(tmp_path, row, message):
  with loggers.MetricsWriter(tmp_path, tensorboard=False) as writer:
    with pytest.raises(ValueError, match=message):
      writer.write(row)
    writer.write({"env_steps": 1, "a": 1.0})
  assert records.read(tmp_path) == [{"env_steps": 1, "a": 1.0}]


@pytest.mark.parametrize("tail", [b'{"env_steps": 30, "a": 3', b"{", b"\0\0\0\0", b"\xff\xfe", b'{"env_steps": 3}x\n'])
def test_a_cut_off_last_line_is_left_out_and_writing_goes_on_behind_it(tmp_path, tail):
  _write(tmp_path, [{"env_steps": 10, "a": 1}, {"env_steps": 20, "a": 2}])
  with open(tmp_path / "metrics.jsonl", "ab") as file:
    file.write(tail)
  assert [row["env_steps"] for row in records.read(tmp_path)] == [10, 20]
  _write(tmp_path, [{"env_steps": 30, "b": 4}])
  assert records.read(tmp_path) == [{"env_steps": 10, "a": 1}, {"env_steps": 20, "a": 2}, {"env_steps": 30, "b": 4}]
  assert _csv(tmp_path) == [["env_steps", "a", "b"], ["10", "1.0", ""], ["20", "2.0", ""], ["30", "", "4.0"]]


def test_a_whole_last_line_without_its_newline_is_a_row(tmp_path):
  _write(tmp_path, [{"env_steps": 10, "a": 1}, {"env_steps": 20, "a": 2}])
  path = tmp_path / "metrics.jsonl"
  path.write_bytes(path.read_bytes()[:-1])
  _write(tmp_path, [{"env_steps": 30, "a": 3}])
  assert [row["env_steps"] for row in records.read(tmp_path)] == [10, 20, 30]


def test_a_broken_line_before_the_last_is_an_error_that_names_it(tmp_path):
  _write(tmp_path, [{"env_steps": 10}, {"env_steps": 20}])
  path = tmp_path / "metrics.jsonl"
  path.write_bytes(b"half\n" + path.read_bytes())
  with pytest.raises(ValueError, match=r"metrics\.jsonl, line 1, is no row"):
    records.read(tmp_path)


def test_truncate_after_drops_what_a_resumed_run_writes_again(tmp_path):
  rows = [{"env_steps": step, "a": step / 3} for step in (10, 20, 30, 40)]
  _write(tmp_path, rows)
  whole = {name: (tmp_path / name).read_bytes() for name in ("metrics.jsonl", "metrics.csv")}
  with open(tmp_path / "metrics.jsonl", "ab") as file:
    file.write(b'{"env_st')
  assert records.truncate_after(tmp_path, 25) == 2
  assert records.read(tmp_path) == rows[:2]
  assert len(_csv(tmp_path)) == 3
  _write(tmp_path, rows[2:])
  # Stopped and resumed, the files are byte for byte those of the run that never stopped.
  assert whole == {name: (tmp_path / name).read_bytes() for name in whole}
  assert records.truncate_after(tmp_path, 40) == 0
  assert whole == {name: (tmp_path / name).read_bytes() for name in whole}


def test_truncate_after_removes_a_cut_off_line_even_where_no_row_goes(tmp_path):
  _write(tmp_path, [{"env_steps": 10}])
  with open(tmp_path / "metrics.jsonl", "ab") as file:
    file.write(b'{"env_st')
  assert records.truncate_after(tmp_path, 10) == 0
  assert (tmp_path / "metrics.jsonl").read_bytes() == b'{"env_steps": 10}\n'


@pytest.mark.parametrize("room", [0, 1, 15, 40])
def test_a_full_disk_leaves_the_earlier_rows_and_writing_can_go_on(tmp_path, room):
  _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  with loggers.MetricsWriter(tmp_path, tensorboard=False) as writer:
    writer.write({"env_steps": 10, "a": 1.0})
    # A file-size limit cuts a write short just as a full disk does: the first part is written, then an OSError.
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "metrics.jsonl").stat().st_size + room, hard))
    try:
      with pytest.raises(OSError, match="too large"):
        _write_many(writer, (20, 30, 40))
    finally:
      resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    before = records.read(tmp_path)
    assert before[0] == {"env_steps": 10, "a": 1.0}
    assert (tmp_path / "metrics.jsonl").read_bytes().endswith(b"}\n")
    assert len(_csv(tmp_path)) == 1 + len(before)
    writer.write({"env_steps": 50, "a": 5.0})
  assert records.read(tmp_path) == [*before, {"env_steps": 50, "a": 5.0}]
  assert len(_csv(tmp_path)) == 2 + len(before)


def test_a_row_that_fits_only_one_of_the_files_is_in_neither(tmp_path, monkeypatch):
  with loggers.MetricsWriter(tmp_path, tensorboard=False) as writer:
    writer.write({"env_steps": 10, "a": 1.0})

    def full(*_):
      raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
      patch.setattr(loggers.files, "write_atomically", full)
      with pytest.raises(OSError, match="No space"):
        writer.write({"env_steps": 20, "b": 2.0})  # a new column: metrics.csv has to be made anew
    assert records.read(tmp_path) == [{"env_steps": 10, "a": 1.0}]
    writer.write({"env_steps": 20, "b": 2.0})
  assert [row["env_steps"] for row in records.read(tmp_path)] == [10, 20]
  assert _csv(tmp_path)[0] == ["env_steps", "a", "b"]


def test_killed_while_writing_every_row_that_was_reported_is_there(tmp_path):
  program = (
    "import itertools, sys\n"
    "from varl.run import loggers\n"
    "writer = loggers.MetricsWriter(sys.argv[1], tensorboard=False)\n"
    "for step in itertools.count():\n"
    "  writer.write({'env_steps': step, 'x': step / 7})\n"
    "  print(step, flush=True)\n"
  )
  root = pathlib.Path(loggers.__file__).parents[2]
  with subprocess.Popen(
    [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, cwd=root, text=True
  ) as process:
    for line in process.stdout:
      if int(line) == 20:
        break
    os.kill(process.pid, signal.SIGKILL)
    reported = 20 + len(process.stdout.read().splitlines())
  rows = records.read(tmp_path)
  assert rows[: reported + 1] == [{"env_steps": step, "x": step / 7} for step in range(reported + 1)]


def test_the_writer_needs_no_heavy_import(tmp_path):
  program = (
    "import sys\nfrom varl.run import loggers\n"
    "loggers.MetricsWriter(sys.argv[1], tensorboard=False).write({'env_steps': 1})\n"
    "print([name for name in ('jax', 'numpy', 'tensorboardX', 'matplotlib') if name in sys.modules])"
  )
  root = pathlib.Path(loggers.__file__).parents[2]
  done = subprocess.run(
    [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, cwd=root, check=True
  )
  assert done.stdout.strip() == "[]"


def test_a_closed_writer_refuses_a_row(tmp_path):
  writer = loggers.MetricsWriter(tmp_path, tensorboard=False)
  writer.close()
  writer.close()
  with pytest.raises(ValueError, match="closed"):
    writer.write({"env_steps": 1})


def _events(out):
  """Every (tag, step, value) and the purge mark of the event files, read from their records."""
  from tensorboardX.proto import event_pb2

  found, purged = [], []
  for path in sorted((out / "tensorboard").iterdir()):
    data = path.read_bytes()
    at = 0
    while at < len(data):
      length = int.from_bytes(data[at : at + 8], "little")
      event = event_pb2.Event.FromString(data[at + 12 : at + 12 + length])
      at += 16 + length
      found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
      if event.HasField("session_log"):
        purged.append(event.step)
  return found, purged


def test_tensorboard_events_and_the_mark_of_a_resume(tmp_path):
  _write(tmp_path, [{"env_steps": 10, "a/b": 0.5}, {"env_steps": 20, "a/b": 1.5}], tensorboard=True)
  assert _events(tmp_path) == ([("a/b", 10, 0.5), ("a/b", 20, 1.5)], [])
  records.truncate_after(tmp_path, 10)
  _write(tmp_path, [{"env_steps": 20, "a/b": 2.5}], tensorboard=True)
  found, purged = _events(tmp_path)
  assert ("a/b", 20, 2.5) in found
  assert purged == [11]

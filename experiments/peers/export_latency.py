"""One action of an exported policy: how long it takes, and how far it is from the live one.

    python -m experiments.peers.export_latency   # needs varl[onnx]; a minute

SAC's policy with halfcheetah's sizes, as it starts. The live one is called through `jax.jit`; the exported ones in
processes that import jax, or onnxruntime, and no varl. A time is the median of 2,000 calls of one observation each.
Writes `experiments/results/export.json`.
"""

import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

RESULT = pathlib.Path(__file__).parents[1] / "results" / "export.json"
HIDDEN, CALLS, ROWS = (256, 256), 2_000, 1_000
LOADED = {
  "program, jax alone": """
import jax
call = jax.jit(jax.export.deserialize(bytearray(open(sys.argv[1], "rb").read())).call)
act = lambda obs: np.asarray(call(obs))
""",
  "ONNX, onnxruntime": """
import onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
act = lambda obs: session.run(None, {"obs": obs})[0]
""",
}
MEASURE = """
obs = np.load(sys.argv[2])
np.save(sys.argv[3], act(obs))
one, times = obs[:1], []
for _ in range(%d):
  start = time.perf_counter()
  act(one)
  times.append(time.perf_counter() - start)
assert "varl" not in sys.modules
print(statistics.median(times[100:]))
"""


def main() -> None:
  import jax
  import numpy as np

  import varl
  from varl.agents import sac
  from varl.run import doctor
  from varl.run.export import Policy

  sizes = varl.Spec(17, 6)
  agent = sac.make(sizes, sac.Config(hidden=HIDDEN))
  policy = Policy(agent, agent.init(jax.random.key(0)).params, (-1.0, 1.0))
  obs = np.random.default_rng(0).normal(size=(ROWS, 17)).astype(np.float32)
  live = jax.jit(policy)
  wanted, times = np.asarray(live(obs)), []
  for _ in range(CALLS):
    start = time.perf_counter()
    np.asarray(live(obs[:1]))
    times.append(time.perf_counter() - start)
  forms: dict[str, Any] = {"live, jax.jit": {"seconds": statistics.median(times[100:]), "largest_difference": None}}
  with tempfile.TemporaryDirectory() as scratch:
    folder = pathlib.Path(scratch)
    np.save(folder / "obs.npy", obs)
    for name, ending in (("program, jax alone", ".jax"), ("ONNX, onnxruntime", ".onnx")):
      file = varl.export(policy, folder / f"policy{ending}")
      code = "import statistics, sys, time\nimport numpy as np" + LOADED[name] + MEASURE % CALLS
      command = [sys.executable, "-I", "-c", code, str(file), str(folder / "obs.npy"), str(folder / "found.npy")]
      ran = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
      apart = float(np.max(np.abs(np.load(folder / "found.npy") - wanted)))
      forms[name] = {"seconds": float(ran.stdout), "largest_difference": apart}
  body = {
    "command": "python -m experiments.peers.export_latency", "hidden": HIDDEN, "forms": forms, **doctor.device_summary()
  }  # fmt: skip
  print(json.dumps(forms, indent=1))
  RESULT.write_text(json.dumps(body, indent=1) + "\n")


if __name__ == "__main__":
  main()

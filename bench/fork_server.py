"""The fork server for training runs: it imports torch once; each line on stdin forks a run, which may be killed.

    python bench/fork_server.py      {"argv": [...], "kill": {"step": 7}}  ->  {"code": -9, "seconds": 0.4}

`kill` names the step before which SIGKILL is sent, or the checkpoint ({"save": 3}) between whose last byte and rename it
is sent, or the step at which SIGTERM is sent ({"term": 7}). `every` writes a checkpoint at each step. `script` runs in
place of training/train.py, with `env` set and its stdout and stderr in `out` and `err`. A list of runs is forked
together, and answered by a list.
"""

import json
import os
import runpy
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "training"))

import checkpoint
import fit
import train

alive: Any = None  # keeps a run's result alive until its process ends


def arm_kill(kill: dict[str, int], every: bool) -> None:
    """Patch this process so that it sends itself the signal of `kill`; `every` writes a checkpoint at each step."""
    if every:
        checkpoint.LEAST_S, checkpoint.SHARE = 0.0, 1e9
        checkpoint.Checkpoints.due = lambda self: self.ranks.rank == 0
    counted = {"step": 0, "save": 0}
    step, replace = fit.Fit.train_step, Path.replace

    def train_step(self: Any, *batch: Any) -> Any:
        counted["step"] += 1
        if counted["step"] == kill.get("step"):
            os.kill(os.getpid(), signal.SIGKILL)
        if counted["step"] == kill.get("term"):
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *batch)

    def replace_file(self: Path, target: Any) -> Path:
        counted["save"] += self.name.startswith(f".{checkpoint.NAME}")
        if counted["save"] == kill.get("save"):
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(self, target)

    fit.Fit.train_step, Path.replace = train_step, replace_file  # type: ignore[method-assign,assignment]


def run(request: dict[str, Any]) -> int:
    """Train in this fork as the command line says; return train.py's exit code."""
    arm_kill(request.get("kill", {}), request.get("every", False))
    try:
        global alive
        alive = train.main(train.build_parser().parse_args(request["argv"]))
    except fit.Stopped:
        return int(train.STOPPED)
    return 0


def run_script(request: dict[str, Any]) -> int:
    """Run another program in this fork like `python SCRIPT`, but with torch already imported; return 0 or 1."""
    os.environ.update(request["env"])
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.argv = [request["script"], *request["argv"]]
    try:
        runpy.run_path(request["script"], run_name="__main__")
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def spawn_run(request: dict[str, Any]) -> int:
    """Fork a run; return its process id."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.dup2(2, 1)
            code = run_script(request) if "script" in request else run(request)
        finally:
            os._exit(code)
    return child


def main() -> None:
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        began = time.monotonic()
        children = [spawn_run(one) for one in (request if isinstance(request, list) else [request])]
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        ended = [{"code": code, "seconds": time.monotonic() - began} for code in codes]
        print(json.dumps(ended if isinstance(request, list) else ended[0]), flush=True)


if __name__ == "__main__":
    main()

"""The test that killed and resumed training runs end with the weights of an uninterrupted run."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from bench.paired_timing import Check, report_pairs
from ops.core.errors import OpsError
from ops.core.output import say
from ops.core.paths import ROOT
from ops.core.task import Result

STEPS, EPOCHS = 5, 3  # a run has 15 steps; with `every`, a checkpoint at each, and at each epoch's end
SETTINGS = ["--epochs", str(EPOCHS), "--batch", "8", "--pixels", "16", "--flip", "true", "--shift", "0.1"]


class ForkServer:
    """The running process of bench/fork_server.py; `env` has the variables to set before torch is imported."""

    def __init__(self, env: dict[str, str] | None = None) -> None:
        argv = [sys.executable, str(ROOT / "bench" / "fork_server.py")]
        self._process = subprocess.Popen(
            argv,
            env=os.environ | (env or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._read_reply()

    def train(self, data: Path, out: Path, *more: str, kill: dict[str, int] | None = None, every: bool = True) -> int:
        """Run training once; return its exit code."""
        folders = ["--data", str(data), "--out", str(out), "--checkpoints", str(out) + "-checkpoints"]
        request = {"argv": [*folders, *SETTINGS, *more], "kill": kill or {}, "every": every}
        return int(self._send_request(request)["code"])

    def run_together(self, script: Path, argv: list[str], *envs: dict[str, str]) -> list[str]:
        """Run a program in each environment at once; return what each printed. Raises OpsError with its stderr."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            runs = [
                {"script": str(script), "argv": argv, "env": env}
                | {kind: str(folder / f"{number}.{kind}") for kind in ("out", "err")}
                for number, env in enumerate(envs)
            ]
            for number, ended in enumerate(self._send_request(runs)):
                if ended["code"]:
                    last = (folder / f"{number}.err").read_text().strip()[-600:]
                    raise OpsError(f"{script.name} failed with exit code {ended['code']}: {last}")
            return [(folder / f"{number}.out").read_text() for number in range(len(runs))]

    def _send_request(self, request: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._read_reply()

    def _read_reply(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise OpsError("bench/fork_server.py has ended. Try: python training/train.py --help")
        return json.loads(line)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> ForkServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run that was killed: how, and whether its weights equal those of the uninterrupted run."""

    kills: tuple[dict[str, int], ...]
    equal: bool
    seconds: float
    whole_s: float = 0.0  # seconds of an uninterrupted run, right after it


def write_noise_pictures(folder: Path, train: int = STEPS * 8 - 1, seed: int = 0) -> Path:
    """Write pictures of noise in two classes, such that the last batch of an epoch is smaller than the others."""
    draw = random.Random(seed)
    for split, count in (("train", train), ("valid", 6), ("test", 6)):
        for number in range(count):
            path = folder / split / ("cat", "dog")[number % 2] / f"{number:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.frombytes("RGB", (16, 16), draw.randbytes(768)).save(path)
    return folder


def read_weights(out: Path) -> bytes:
    return (out / "model.safetensors").read_bytes()


def kill_and_resume(
    server: ForkServer, data: Path, out: Path, whole: bytes, draw: random.Random, *more: str
) -> Outcome:
    """Start a run, kill it at random moments one to three times, then resume it until it ends."""
    kills = tuple(
        {draw.choice(("step", "save", "term")): draw.randint(1, STEPS * EPOCHS)} for _ in range(draw.randint(1, 3))
    )
    began = time.monotonic()
    for kill in kills:
        server.train(data, out, *more, kill=kill)
    code = server.train(data, out, *more)
    return Outcome(kills, code == 0 and read_weights(out) == whole, time.monotonic() - began)


def verify_resume(runs: int, seed: int) -> Result:
    """Kill and resume `runs` runs, check their weights, return the report. Raises OpsError if the first run fails."""
    if runs < 1:
        raise OpsError(f"--runs must be 1 or more, not {runs}.")
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder, ForkServer() as server:
        place = Path(folder)
        data = write_noise_pictures(place / "data")
        if code := server.train(data, place / "whole", every=False):
            raise OpsError(f"The uninterrupted run of training/train.py failed with exit code {code}.")
        outcomes = []
        for number in range(runs):
            outcome = kill_and_resume(server, data, place / str(number), read_weights(place / "whole"), draw)
            began = time.monotonic()
            server.train(data, place / f"{number}-whole", every=False)
            outcomes.append(replace(outcome, whole_s=time.monotonic() - began))
            say(
                f"  {number + 1}/{runs}: {', '.join(map(str, outcomes[-1].kills))}: {'equal' if outcomes[-1].equal else 'DIFFERENT'}"
            )
    equal = sum(outcome.equal for outcome in outcomes)
    check = Check(
        "resumed runs whose weights are bit-equal to those of the uninterrupted run",
        equal,
        f"of {runs}",
        "all",
        equal == runs,
    )
    times = [(outcome.seconds, outcome.whole_s) for outcome in outcomes]
    return report_pairs(
        times, [check], "killed and resumed, a checkpoint at each step", "uninterrupted, a checkpoint per epoch"
    )

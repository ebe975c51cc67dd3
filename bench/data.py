"""The benchmark of data.push against `aws s3 sync`: 2,000 incompressible PNGs of 20 KB, whole commands, one line.

Both sides send the same files to the same store (bench/store.py: moto would take most of the time) over the same line
(bench/link.py), in turn, into an empty bucket or a second time. Ours assumes its role first, as every command does:
that request is part of the cost of a push, and the store answers it as STS would. rclone and s5cmd, where installed, are
measured in each round too, but no check uses them.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from bench import opponents
from bench import paired_timing as measure
from bench.link import Link
from bench.store import ACCOUNT, Store
from ops.core.errors import OpsError
from ops.core.output import format_table, say
from ops.core.paths import ROOT
from ops.core.task import Result

CLASSES, SIDE = 10, 80  # a picture of SIDE x SIDE noise is 19.3 KB of PNG
ARCHIVE_END = 10_240  # bytes: tar fills its last record
ROUND_TRIP_S = 0.02
GBIT, MBIT_100 = 1e9 / 8, 1e8 / 8  # bytes a second
MIN_SPEEDUP, MAX_WIRE_RATIO, MAX_UNCHANGED_RATIO = 5.0, 1.5, 1.0  # the bounds of the checks
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench", "AWS_DEFAULT_REGION": "us-east-1"}

Sender = Callable[[], float]


@dataclass
class LinkedStore:
    """The store behind one link, with what each program needs to reach it; `url` is the near end of the link."""

    store: Store
    url: str
    rate: float
    folder: Path
    pictures: Path
    aws: Path

    def time_push(self, fresh: bool) -> float:
        """Return the seconds of one `invoke data.push`; `fresh` empties the bucket and the local cache first."""
        work = self.folder / "work"
        if fresh:
            shutil.rmtree(work, ignore_errors=True)
            self.store.clear()
        argv = [sys.executable, "-m", "invoke", "-f", str(self.folder / "bench.yaml"), "data.push", "--dir"]
        return time_command([*argv, str(self.pictures)], {"KENNEL_WORK": str(work)})

    def build_senders(self, fresh: bool) -> dict[str, Sender]:
        """Return data.push, the AWS CLI, and those of rclone and s5cmd that are installed."""
        found: dict[str, Sender] = {
            "data.push": lambda: self.time_push(fresh),
            "aws s3 sync": lambda: self.time_aws_sync(fresh),
        }
        for name in ("rclone", "s5cmd"):
            if shutil.which(name):
                found[name] = partial(self.time_other, name, fresh)
        return found

    def time_program(self, argv: list[str], fresh: bool) -> float:
        if fresh:
            self.store.clear()
        return time_command([*argv], {**CREDENTIALS, "HOME": str(self.folder), "AWS_EC2_METADATA_DISABLED": "true"})

    def time_aws_sync(self, fresh: bool) -> float:
        argv = [str(self.aws), "--endpoint-url", self.url, "s3", "sync", "--only-show-errors"]
        return self.time_program([*argv, str(self.pictures), "s3://bench/"], fresh)

    def time_other(self, name: str, fresh: bool) -> float:
        rclone = f":s3,provider=Other,env_auth=true,force_path_style=true,endpoint='{self.url}':bench"
        argv = {
            "rclone": [
                "rclone",
                "sync",
                "--quiet",
                "--transfers",
                "16",
                "--checkers",
                "16",
                str(self.pictures),
                rclone,
            ],
            "s5cmd": [
                "s5cmd",
                "--log",
                "error",
                "--endpoint-url",
                self.url,
                "sync",
                f"{self.pictures}/",
                "s3://bench/",
            ],
        }
        return self.time_program(argv[name], fresh)


def time_command(argv: list[str], env: dict[str, str]) -> float:
    """Return the wall time of a whole command in seconds. Raises OpsError with its stderr when it fails."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("AWS_") and "proxy" not in name.lower()
    }
    began = time.perf_counter()
    done = subprocess.run(argv, cwd=ROOT, env=environment | env, capture_output=True, text=True, check=False)
    took = time.perf_counter() - began
    if done.returncode:
        raise OpsError(f"{Path(argv[0]).name} failed with exit code {done.returncode}: {done.stderr.strip()[-600:]}")
    return took


def draw_pictures(folder: Path, count: int) -> int:
    """Write pictures of noise, eight of ten into train; return their total bytes."""
    total = 0
    for number in range(count):
        split = {8: "valid", 9: "test"}.get(number % 10, "train")
        path = folder / split / f"class-{number // 10 % CLASSES}" / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.frombytes("RGB", (SIDE, SIDE), os.urandom(SIDE * SIDE * 3)).save(path, compress_level=0)
        total += path.stat().st_size
    return total


@contextmanager
def open_linked_stores(folder: Path, sent: Path, aws: Path, rates: tuple[float, ...]) -> Iterator[list[LinkedStore]]:
    """Serve the store on a thread of this process, behind one link for each rate; yield them."""
    loop, store = asyncio.new_event_loop(), Store()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def port(serving: Coroutine[Any, Any, asyncio.Server]) -> int:
        listening = asyncio.run_coroutine_threadsafe(serving, loop).result()
        return int(listening.sockets[0].getsockname()[1])

    far = port(store.serve())
    made = []
    for number, rate in enumerate(rates):
        url = f"http://127.0.0.1:{port(Link(far, ROUND_TRIP_S, rate).serve())}"
        made.append(LinkedStore(store, url, rate, write_bench_settings(folder / str(number), url), sent, aws))
    try:
        yield made
    finally:
        asyncio.run_coroutine_threadsafe(cancel_connections(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


async def cancel_connections() -> None:
    """Cancel the tasks of connections that clients left open, which would complain when their loop ends."""
    asyncio.get_running_loop().set_exception_handler(
        lambda loop, context: None
    )  # the default handler would log that each was cancelled
    connections = asyncio.all_tasks() - {asyncio.current_task()}
    for connection in connections:
        connection.cancel()
    await asyncio.gather(*connections, return_exceptions=True)


def write_bench_settings(folder: Path, url: str) -> Path:
    """Write a profile and a settings file that direct our side to the link; nothing else distinguishes it from AWS."""
    folder.mkdir()
    keys = "aws_access_key_id = bench\naws_secret_access_key = bench"
    (folder / "config").write_text(f"[profile bench]\nregion = us-east-1\nendpoint_url = {url}\n{keys}\n")
    aws = json.dumps(
        {"profile": "bench", "config_file": str(folder / "config"), "account": ACCOUNT, "region": "us-east-1"}
    )
    (folder / "bench.yaml").write_text(f"stack: {{name: bench}}\naws: {aws}\n")
    return folder


def measure_push(rounds: int, files: int) -> Result:
    """Measure all senders, check the ratios, return the report. Raises OpsError when a push fails or is incomplete."""
    if rounds < 1 or files < 10 * CLASSES:
        raise OpsError(
            f"--rounds must be 1 or more, --files {10 * CLASSES} or more, so that each split has each class."
        )
    aws = opponents.find_in_venv("aws", "bench.data", "the AWS CLI")
    with tempfile.TemporaryDirectory(prefix="kennel-bench-") as name:
        folder = Path(name)
        sent = folder / "pictures"
        total = draw_pictures(sent, files)
        say(
            f"Measuring {files} pictures of noise, {total / 1e6:.1f} MB, {CLASSES} classes; round trip {ROUND_TRIP_S * 1000:.0f} ms"
        )
        with open_linked_stores(folder, sent, aws, (GBIT, MBIT_100)) as (wide, narrow):
            for send in wide.build_senders(fresh=True).values():
                send()  # unmeasured: it fills the caches of bytecode and files
            new = time_senders(
                "1 Gbit/s, all new", wide.build_senders(fresh=True), rounds, lambda: check_arrival(wide.store, total)
            )
            slow = time_senders(
                "100 Mbit/s, all new",
                narrow.build_senders(fresh=True),
                rounds,
                lambda: check_arrival(narrow.store, total),
            )
            wide.time_push(fresh=True)
            for send in [*wide.build_senders(fresh=False).values()][1:]:
                send()  # each has now sent everything
            wide.store.requests.clear()
            wide.time_push(fresh=False)
            request_count = wide.store.count_s3_requests()
            same = time_senders("1 Gbit/s, nothing changed", wide.build_senders(fresh=False), rounds, lambda: None)
    return report_push({"new": new, "slow": slow, "same": same}, total / MBIT_100, total, request_count)


def check_arrival(store: Store, total: int) -> None:
    """Check that the last sender sent everything, as shards or as files. Raises OpsError."""
    stored = sum(len(found.body) for key, found in store.objects.items() if not key.endswith(".json"))
    ends = ARCHIVE_END * sum(key.endswith(".tar") for key in store.objects)
    if not total <= stored <= total * 1.1 + ends:
        raise OpsError(f"The upload is incomplete: the store has {stored} bytes, the pictures have {total}.")


def time_senders(
    what: str, senders: dict[str, Sender], rounds: int, after: Callable[[], None]
) -> dict[str, list[float]]:
    """Return the seconds of each sender, which run one after another in each round."""
    found: dict[str, list[float]] = {name: [] for name in senders}
    for _ in range(rounds):
        for name, send in senders.items():
            found[name].append(send())
            after()
        say(f"{what}: " + ", ".join(f"{name} {times[-1]:.2f} s" for name, times in found.items()))
    return found


def report_push(found: dict[str, dict[str, list[float]]], wire: float, total: int, request_count: int) -> Result:
    both = {what: list(zip(times["data.push"], times["aws s3 sync"], strict=True)) for what, times in found.items()}
    speedup, unchanged = measure.compute_speedup(both["new"]), 1 / measure.compute_speedup(both["same"])
    wire_ratio = statistics.median(found["slow"]["data.push"]) / wire
    checks = [
        measure.Check(
            "all new at 1 Gbit/s: aws s3 sync / data.push",
            speedup,
            "x",
            f"at least {MIN_SPEEDUP:g}",
            speedup >= MIN_SPEEDUP,
        ),
        measure.Check(
            f"all new at 100 Mbit/s: data.push / transmission time of {wire:.2f} s",
            wire_ratio,
            "x",
            f"at most {MAX_WIRE_RATIO:g}",
            wire_ratio <= MAX_WIRE_RATIO,
        ),
        measure.Check(
            "nothing changed: data.push / aws s3 sync",
            unchanged,
            "x",
            f"at most {MAX_UNCHANGED_RATIO:g}",
            unchanged <= MAX_UNCHANGED_RATIO,
        ),
        measure.Check("nothing changed: requests to S3", request_count, "", "exactly 1", request_count == 1),
    ]
    answer = measure.report_pairs(both["new"], checks, "invoke data.push", "aws s3 sync")
    rows = [
        (what, name, f"{statistics.median(times):.2f}", f"{min(times):.2f}", f"{max(times):.2f}")
        for what, line in zip(
            ("1 Gbit/s, all new", "100 Mbit/s, all new", "nothing changed"), found.values(), strict=True
        )
        for name, times in line.items()
    ]
    table = format_table(("link", "program", "median s", "min s", "max s"), rows)
    data = {"bytes": total, "wire_s": round(wire, 3), "seconds": found}
    return Result(answer.data | data, f"{table}\n\n{answer.text}", code=answer.code)

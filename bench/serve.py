"""The benchmark of the server against flask, gunicorn and torch, and against LitServe: one ResNet-18, same pictures.

Callers are those of ops.releases.load_test, in a process of their own (bench/callers.py). Each server has as many
compute threads as there are vCPUs, two.
Alternatives measured on two vCPUs at 1, 2, 8 and 32 callers, in successes per second: gunicorn with 2 workers of one
torch thread 20, 38, 39, 38; 1 worker, 2 request threads, 1 torch thread 20, 39, 38, 38; 1 worker, 1 request thread, 2
torch threads 33, 32, 33, 29; LitServe with 2 workers of one thread 19, 33, 38, 39; 1 worker of two threads 30, 31, 29,
22. The first of each is the strongest under load. Ours is compared with it at the number of callers at which it is best.
"""

from __future__ import annotations

import http.client
import json
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench import paired_timing as measure
from bench.callers import Cell, read_pictures
from bench.paired_timing import Check
from bench.servers import FLASK, LITSERVE, OURS, Server, find_python, make_release, start_server
from bench.train import MASKED
from ops.core.errors import OpsError
from ops.core.output import format_table, say
from ops.core.paths import ROOT
from ops.core.task import Result
from ops.releases import load_test

CALLERS = (1, 8, 32)
OVERLOAD = 4  # times as many callers as are admitted
MIN_SPEEDUP_AMX, MIN_SPEEDUP = 2.5, 1.4  # over torch, with AMX and without it
# In fp32, on a CPU with bf16 and without AMX: just below the measured value, so that a regression fails.
MIN_SPEEDUP_FP32 = 1.1
MAX_P99_RATIO, REFUSED_S = 2.0, 0.05
WARMUP_S = 1.0

Rounds = dict[tuple[str, int], list["Cell"]]


class Callers:
    """The running process of bench/callers.py, separate so that callers do not count as CPU time of the server."""

    def __init__(self, golden: Path) -> None:
        argv = [sys.executable, "-m", "bench.callers", str(golden)]
        self._process = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def call(self, server: Server, callers: int, seconds: float) -> Cell:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        before = server.read_cpu_time()
        request = {"port": server.port, "callers": callers, "seconds": seconds}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise OpsError(f"bench/callers.py ended while it measured {server.name}.")
        spent, found = server.read_cpu_time() - before, json.loads(line)
        return Cell(**found["cell"] | {"cpu_s": spent / found["good"] if found["good"] else None})

    def __enter__(self) -> Callers:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def call_server(port: int, method: str, path: str, body: bytes | None = None) -> bytes:
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=load_test.TIMEOUT_S)
    try:
        line.request(method, path, body, {"Content-Type": "application/x-image"})
        return line.getresponse().read()
    finally:
        line.close()


def read_limit_and_precision(port: int) -> tuple[int, str]:
    """Return (how many requests our server admits, its precision), from its metrics."""
    text = call_server(port, "GET", "/metrics").decode()
    limit, precision = re.search(r"^serving_requests_limit (\S+)", text, re.M), re.search(r'precision="(\w+)"', text)
    assert limit and precision
    return int(float(limit[1])), precision[1]


def compute_agreement(servers: list[Server], golden: Path) -> float:
    """Return the share of pictures for which all servers answer the same class."""
    same = [
        len({json.loads(call_server(server.port, "POST", "/invocations", picture))["best"] for server in servers}) == 1
        for picture in read_pictures(golden)
    ]
    return sum(same) / len(same)


def measure_servers(
    servers: list[Server], levels: list[int], rounds: int, seconds: float, callers_process: Callers, what: str
) -> Rounds:
    """Measure each server in turn in each round, starting with another one; return cells by server and callers."""
    found: Rounds = {}
    for server in servers:
        callers_process.call(server, servers.index(server) + 2, min(WARMUP_S, seconds))
    for number in range(rounds):
        first = number % len(servers)
        for callers in levels:
            for server in servers[first:] + servers[:first]:
                found.setdefault((server.name, callers), []).append(callers_process.call(server, callers, seconds))
        rates = ", ".join(f"{server.name} {found[server.name, CALLERS[1]][-1].rate:.1f}" for server in servers)
        say(f"  {what}, round {number + 1}/{rounds}: successes/s with {CALLERS[1]} callers: {rates}")
    return found


def compare_rates(found: Rounds, theirs: str, callers: int) -> list[float]:
    both = zip(found[OURS, callers], found[theirs, callers], strict=True)
    return [a.rate / b.rate if b.rate else float("inf") for a, b in both]


def find_best_load(found: Rounds, name: str) -> int:
    """Return the number of callers at which this server's rate is highest."""
    return max(CALLERS, key=lambda callers: statistics.median(cell.rate for cell in found[name, callers]))


def list_serving_checks(found: Rounds, what: str, limit: int, bound: float, agreed: float) -> Iterator[Check]:
    yield Check(f"{what}: pictures that {OURS} and {FLASK} classify alike", agreed, "", "exactly 1", agreed == 1)
    callers = find_best_load(found, FLASK)
    ratio = statistics.median(compare_rates(found, FLASK, callers))
    name = f"{what}: successes/s, {OURS} against {FLASK}, {callers} callers"
    yield Check(name, ratio, "x", f"at least {bound:g}", ratio >= bound)
    spent = [
        b.cpu_s / a.cpu_s
        for a, b in zip(found[OURS, callers], found[FLASK, callers], strict=True)
        if a.cpu_s and b.cpu_s
    ]
    if spent:
        yield Check(
            f"{what}: successes per CPU second, {OURS} against {FLASK}",
            statistics.median(spent),
            "x",
            "reported only",
            True,
        )
    if (LITSERVE, CALLERS[0]) in found:
        callers = find_best_load(found, LITSERVE)
        ratio = statistics.median(compare_rates(found, LITSERVE, callers))
        yield Check(
            f"{what}: successes/s, {OURS} against {LITSERVE}, {callers} callers", ratio, "x", "reported only", True
        )
    full, over = found[OURS, limit], found[OURS, OVERLOAD * limit]
    p99_ratio = statistics.median((b.p99 or float("inf")) / (a.p99 or 1) for a, b in zip(full, over, strict=True))
    name = f"{what}: p99 of successes, {OVERLOAD * limit} callers against {limit}"
    yield Check(name, p99_ratio, "x", f"at most {MAX_P99_RATIO:g}", p99_ratio <= MAX_P99_RATIO)
    late = statistics.median(cell.refused_p99 or 0.0 for cell in over)
    name = f"{what}: p99 of refusals, {OVERLOAD * limit} callers, {sum(cell.refused for cell in over)} refused"
    yield Check(name, late, "s", f"at most {REFUSED_S:g}", late <= REFUSED_S and any(cell.refused for cell in over))
    failed = sum(cell.failed for (name, _), cells in found.items() for cell in cells if name == OURS)
    yield Check(f"{what}: responses that are neither success nor refusal", failed, "", "exactly 0", failed == 0)


def compute_median(cells: list[Cell], name: str) -> float | None:
    values = [value for cell in cells if (value := getattr(cell, name)) is not None]
    return statistics.median(values) if values else None


def summarise_cells(found: Rounds, what: str) -> list[dict[str, Any]]:
    """Return the rows of the table: medians over rounds, with the lowest and highest rate."""
    return [
        {"instructions": what, "server": name, "callers": callers, "rate": compute_median(cells, "rate"),
         "rate_least": min(cell.rate for cell in cells), "rate_most": max(cell.rate for cell in cells),
         "p50_s": compute_median(cells, "p50"), "p99_s": compute_median(cells, "p99"),
         "refused": sum(cell.refused for cell in cells), "refused_p99_s": compute_median(cells, "refused_p99"),
         "failed": sum(cell.failed for cell in cells), "cpu_s": compute_median(cells, "cpu_s")}
        for (name, callers), cells in sorted(found.items(), key=lambda item: (item[0][1], item[0][0] != OURS))
    ]  # fmt: skip


def format_rows(lines: list[dict[str, Any]]) -> str:
    def ms(value: float | None) -> str:
        return "-" if value is None else f"{value * 1000:.1f}"

    names = (
        "CPU",
        "callers",
        "server",
        "ok/s",
        "min",
        "max",
        "p50 ms",
        "p99 ms",
        "refused",
        "refused p99 ms",
        "failed",
        "CPU ms per ok",
    )
    cells = [
        (line["instructions"], line["callers"], line["server"], f"{line['rate']:.1f}", f"{line['rate_least']:.1f}",
         f"{line['rate_most']:.1f}", ms(line["p50_s"]), ms(line["p99_s"]), line["refused"], ms(line["refused_p99_s"]),
         line["failed"], ms(line["cpu_s"]))
        for line in lines
    ]  # fmt: skip
    return format_table(names, cells)


def compare_servers(what: str, env: dict[str, str], bound: float, rounds: int, seconds: float, made: Path) -> tuple[
    list[Check], Rounds, list[dict[str, Any]]
]:  # fmt: skip
    """Start all servers and measure them, one at a time; return (checks, cells, rows of the table)."""
    names = (OURS, FLASK, LITSERVE)
    golden = made / "model" / "golden.npz"
    with tempfile.TemporaryDirectory(prefix="kennel-bench-") as logs, ExitStack() as stack:
        say(f"{what}: starting {', '.join(names)} ...")
        servers = [
            stack.enter_context(start_server(name, made, env, Path(logs) / str(number)))
            for number, name in enumerate(names)
        ]
        limit, precision = read_limit_and_precision(servers[0].port)
        agreed = compute_agreement([server for server in servers if server.name in (OURS, FLASK)], golden)
        say(f"  ours runs in {precision} and admits {limit} requests at a time")
        what = f"{what}, {precision}"
        callers_process = stack.enter_context(Callers(golden))
        found = measure_servers(servers, [*CALLERS, limit, OVERLOAD * limit], rounds, seconds, callers_process, what)
    return list(list_serving_checks(found, what, limit, bound, agreed)), found, summarise_cells(found, what)


def read_capabilities() -> dict[str, Any]:
    """Return the object that bench/capabilities.py prints. Raises OpsError when it fails."""
    argv = [sys.executable, str(ROOT / "bench" / "capabilities.py")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OpsError(f"Could not read the CPU's capabilities from torch: {done.stderr.strip()[-600:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure_serving(
    rounds: int, seconds: float, arch: str = "resnet18", pixels: int = 224, native: bool = False
) -> Result:
    """Measure all servers, check the ratios and return the report. `native` skips the pass with bf16 masked."""
    if rounds < 1 or seconds <= 0:
        raise OpsError("--rounds must be 1 or more, --seconds more than 0.")
    find_python()
    able, made = read_capabilities(), make_release(arch, pixels)
    if able["amx"]:
        passes = [("AMX", {}, MIN_SPEEDUP_AMX), ("bf16 disabled", MASKED, MIN_SPEEDUP)]
    elif able["bf16"]:
        passes = [("no AMX, but AVX512-BF16", {}, MIN_SPEEDUP), ("bf16 disabled", MASKED, MIN_SPEEDUP_FP32)]
    else:
        passes = [("CPU without bf16", {}, MIN_SPEEDUP)]
    if native:
        passes = passes[:1]
    every: list[Check] = []
    lines: list[dict[str, Any]] = []
    for what, env, bound in passes:
        more, found, rows = compare_servers(what, env, bound, rounds, seconds, made)
        every, lines = every + more, lines + rows
    callers = find_best_load(found, FLASK)
    both = zip(found[OURS, callers], found[FLASK, callers], strict=True)
    pairs = [(1 / a.rate, 1 / b.rate) for a, b in both]
    answer = measure.report_pairs(pairs, every, f"python {OURS}server.py serve", "gunicorn 'flask_app:application()'")
    data = {"cells": lines, "rounds": rounds, "seconds": seconds}
    return Result(answer.data | data, f"{format_rows(lines)}\n\n{answer.text}", code=answer.code)

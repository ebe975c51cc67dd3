"""The benchmark of frozen fine-tuning of a ResNet-18: training/train.py against a plain loop on the same data.

Both augment again in each epoch. The CPU seconds of the training passes are compared: a busy neighbour hardly changes
them. What ours does once before the first step (fusing, compiling) is printed too; over thousands of steps it is
negligible. Each run is a process of its own, forked from one that has imported torch: oneDNN reads its environment when
it first computes, and training sets its number of threads itself.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import statistics
from pathlib import Path
from typing import Any

from bench import photos
from bench.paired_timing import Check, report_pairs
from bench.resume import ForkServer
from ops.core.errors import OpsError
from ops.core.output import say
from ops.core.paths import ROOT, WORK
from ops.core.task import Result

EPOCHS, BATCH, LR = 3, 16, 0.003
VIEWS, VIEW_EPOCHS = 2, 6  # K and E
MASKED = {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}  # neither AMX nor AVX512-BF16: as on most CPUs

Measured = dict[str, float]


class Sides:
    """The two programs, on one set of pictures and one file of weights, in a folder of their own."""

    def __init__(self, server: ForkServer, folder: Path, pictures: int, pixels: int) -> None:
        """Make pictures and weights. `server` runs the programs; `pictures` is the number per class in train and test."""
        self.folder, self.pixels, self.tested = folder / str(pictures), pixels, pictures * photos.CLASSES
        self.folder.mkdir(parents=True, exist_ok=True)
        self._server = server
        say("Creating pictures and weights ...")
        counts = {"train": pictures, "valid": max(1, pictures // 4), "test": pictures}
        self.pictures = photos.make_photos(self.folder / "photos", counts)
        self.weights = self.folder / f"start-{pixels}" / "resnet18.pth"
        if not self.weights.exists():
            self.weights.parent.mkdir(exist_ok=True)
            others = photos.make_photos(self.folder / "others", {"train": pictures}, seed=1)
            self.run("start.py", [str(others / "train"), str(self.weights), str(pixels)], {})

    def run(self, script: str, flags: list[str], env: dict[str, str], *ranks: dict[str, str]) -> Measured:
        """Run a program, once per rank at the same time if `ranks` is given; return what the first prints last."""
        outputs = self._server.run_together(ROOT / "bench" / script, flags, *[env | rank for rank in ranks or ({},)])
        return parse_last_line(outputs[0])

    def run_reference(self, seed: int, env: dict[str, str], threads: int = 1, workers: int = 0) -> Measured:
        flags = [
            "--weights",
            str(self.weights),
            "--workers",
            str(workers),
            *self.build_common_flags(seed, EPOCHS, threads),
        ]
        return self.run("reference.py", flags, env)

    def build_flags(self, seed: int, epochs: int, threads: int, views: int) -> list[str]:
        out = self.folder / "out"
        for path in out.glob("checkpoints/**/*"):  # no run may reuse results of the one before
            if path.is_file():
                path.unlink()
        sha = hashlib.sha256(self.weights.read_bytes()).hexdigest()
        return [
            *("--out", str(out), "--checkpoints", str(out / "checkpoints")),
            *("--arch", "resnet18", "--layers", "head", "--start", str(self.weights.parent), "--weights", sha),
            *("--crop", "0.08", "--flip", "true", "--shift", "0", "--views", str(views)),
            *self.build_common_flags(seed, epochs, threads),
        ]

    def run_ours(
        self, seed: int, env: dict[str, str], epochs: int = EPOCHS, threads: int = 1, views: int = 0
    ) -> Measured:
        return self.run("timed.py", self.build_flags(seed, epochs, threads, views), env)

    def run_two_processes(self, seed: int) -> Measured:
        """Run ours as DDP on two processes of one thread each."""
        common = {
            "WORLD_SIZE": "2",
            "LOCAL_WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(find_free_port()),
            "GLOO_SOCKET_IFNAME": "lo",
        }
        ranks = [common | {"LOCAL_RANK": rank, "RANK": rank} for rank in ("0", "1")]
        return self.run("timed.py", self.build_flags(seed, EPOCHS, 1, 0), {}, *ranks)

    def build_common_flags(self, seed: int, epochs: int, threads: int) -> list[str]:
        named = {"epochs": epochs, "batch": BATCH, "lr": LR, "seed": seed, "pixels": self.pixels, "threads": threads}
        return [
            "--data",
            str(self.pictures),
            *(word for name, value in named.items() for word in (f"--{name}", str(value))),
        ]


def find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def parse_last_line(text: str) -> dict[str, Any]:
    """Return the JSON object on the last line; empty if nothing was printed."""
    found: dict[str, Any] = json.loads(text.strip().splitlines()[-1]) if text.strip() else {}
    return found


def compute_rate(result: Measured) -> float:
    return result["images"] / result["cpu_s"]


def compare_sides(
    sides: Sides, pairs: int, env: dict[str, str], name: str, bound: float
) -> tuple[list[Check], list[tuple[float, float]]]:
    """Compare speed and accuracy over `pairs` seeds; return (checks, [(ours, theirs)] in CPU seconds per picture)."""
    ours, theirs = [], []
    for seed in range(pairs):
        theirs.append(sides.run_reference(seed, env))
        ours.append(sides.run_ours(seed, env))
        say(
            f"  {name}, pair {seed + 1}/{pairs}: ours {compute_rate(ours[-1]):.1f} images per CPU-s (start {ours[-1]['start_cpu_s']:.1f} s), "
            f"accuracy {ours[-1]['accuracy']:.3f}; reference {compute_rate(theirs[-1]):.1f}, accuracy {theirs[-1]['accuracy']:.3f}"
        )
    ratio = statistics.median(compute_rate(a) / compute_rate(b) for a, b in zip(ours, theirs, strict=True))
    our_accuracy, reference_accuracy = (statistics.mean(r["accuracy"] for r in results) for results in (ours, theirs))
    noise = (
        2 * (2 * reference_accuracy * (1 - reference_accuracy) / (sides.tested * pairs)) ** 0.5
    )  # two standard errors of the difference of two shares
    checks = [
        Check(f"{name}: images per CPU-s, ours / reference", ratio, "x", f"at least {bound}", ratio >= bound),
        Check(
            f"{name}: accuracy, ours - reference ({our_accuracy:.3f} - {reference_accuracy:.3f})",
            our_accuracy - reference_accuracy,
            "",
            f"at least -{noise:.3f}",
            our_accuracy - reference_accuracy >= -noise,
        ),
    ]
    whole = statistics.median(
        compute_rate(a) * a["cpu_s"] / (a["cpu_s"] + a["start_cpu_s"]) / compute_rate(b)
        for a, b in zip(ours, theirs, strict=True)
    )
    name = f"{name}: images per CPU-s with the start included, {EPOCHS} short epochs"
    checks.append(Check(name, whole, "x", "reported only", True))
    return checks, [(1 / compute_rate(a), 1 / compute_rate(b)) for a, b in zip(ours, theirs, strict=True)]


def measure_cached_views(sides: Sides) -> list[Check]:
    """Compare K cached views with new ones in each of E epochs; reported, not checked: the gain is E/K by design."""
    fresh, cached = sides.run_ours(0, {}, VIEW_EPOCHS), sides.run_ours(0, {}, VIEW_EPOCHS, views=VIEWS)
    spent = [result["cpu_s"] + result["start_cpu_s"] for result in (fresh, cached)]
    name = (
        f"cached views, K={VIEWS}, E={VIEW_EPOCHS}: CPU-s of fresh / cached, start included "
        f"(accuracy {fresh['accuracy']:.3f} / {cached['accuracy']:.3f})"
    )
    return [Check(name, spent[0] / spent[1], "x", "reported only", True)]


def measure_ddp(sides: Sides, pairs: int) -> list[Check]:
    """Compare two processes of one thread with one of two threads, by wall time, on the same two cores."""
    ratios = []
    for seed in range(pairs):
        two, one = sides.run_two_processes(seed), sides.run_ours(seed, {}, threads=2)
        ratios.append(two["images"] / two["wall_s"] / (one["images"] / one["wall_s"]))
        say(f"  DDP, pair {seed + 1}/{pairs}: {ratios[-1]:.2f} x")
    ratio = statistics.median(ratios)
    return [Check("DDP, 2 processes / 1 process of 2 threads, images/s", ratio, "x", "at least 0.95", ratio >= 0.95)]


def compare_on_gpu(sides: Sides, pairs: int, name: str) -> tuple[list[Check], list[tuple[float, float]]]:
    """Compare wall times, the reference with up to 8 workers; print how long the device waited for data."""
    times, waits = [], []
    for seed in range(pairs):
        theirs, ours = sides.run_reference(seed, {}, workers=min(8, os.cpu_count() or 1)), sides.run_ours(seed, {})
        times.append((ours["wall_s"] / ours["images"], theirs["wall_s"] / theirs["images"]))
        waits.append(ours["data_wait_s"] / ours["wall_s"])
        say(
            f"  {name}, pair {seed + 1}/{pairs}: ours {1 / times[-1][0]:.0f} images/s, {waits[-1]:.0%} of the time "
            f"waiting for data; reference {1 / times[-1][1]:.0f} images/s"
        )
    ratio = statistics.median(theirs / ours for ours, theirs in times)
    return [Check(f"{name}: images/s, ours / reference", ratio, "x", "reported only", True)], times


def measure_training(pairs: int, pictures: int, pixels: int) -> Result:
    """Measure both programs, check speed and accuracy, and return the report."""
    if min(pairs, pictures) < 1 or pixels < 32:
        raise OpsError("--pairs and --pictures must be 1 or more, --pixels 32 or more.")
    with ForkServer({"OMP_NUM_THREADS": "1"}) as server:
        capabilities = parse_last_line(server.run_together(ROOT / "bench" / "capabilities.py", [], {})[0])
        sides = Sides(server, WORK / "bench" / "train", pictures, pixels)
        if capabilities["gpu"]:
            checks, times = compare_on_gpu(sides, pairs, capabilities["gpu"])
            return report_pairs(times, checks, "training/train.py", "bench/reference.py")
        checks = []
        if capabilities["amx"] or capabilities["bf16"]:
            name = "AMX" if capabilities["amx"] else "no AMX, but AVX512-BF16"
            checks, _ = compare_sides(sides, pairs, {}, name, 2.5)
        masked, times = compare_sides(sides, pairs, MASKED, "bf16 disabled" if checks else "CPU without bf16", 1.5)
        checks += [*masked, *measure_cached_views(sides), *measure_ddp(sides, pairs)]
    return report_pairs(times, checks, "training/train.py --layers head", "bench/reference.py")

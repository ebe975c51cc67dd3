"""The model behind the server: a release folder, verified file by file, run by OpenVINO in its fastest precision."""

import hashlib
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from picture import prepare_picture

# Greatest difference from torch's scores: fp32 measured 2e-5; bf16 has an 8-bit mantissa, over tens of layers.
TOLERANCE = {"fp32": 1e-3, "bf16": 6e-2}
BF16_PIXELS = 64  # for smaller pictures fp32 is as fast, and more exact
CPU = Path("/proc/cpuinfo")


class BadRelease(Exception):
    """The release cannot be served: a file is missing or corrupt, or the golden answers are not reproduced."""


@dataclass(frozen=True)
class Answer:
    """The answer for one picture: scores and probabilities in the order of the classes."""

    scores: list[float]
    probabilities: list[float]
    best: str
    certain: bool | None  # None if the release has no threshold, as those of earlier trainings


class Engine:
    """The loaded release. `digest` names it, `precision` is fp32 or bf16; several threads may call `classify`."""

    def __init__(self, folder: Path) -> None:
        """Verify and load the release, in the first precision that reproduces the golden answers. Raises BadRelease."""
        release = read_verified_release(folder)
        self.digest: str = release["digest"]
        self.card: dict[str, Any] = json.loads((folder / "model.json").read_text())
        self.classes: list[str] = self.card["classes"]
        valid = self.card.get("metrics", {}).get("valid", {})
        self.certain_from: float | None = valid.get("certain_from")  # see training/metrics.py
        self.golden = Golden(folder / "golden.npz")
        for precision in order_precisions(release["precisions"], self.card["preprocess"]["pixels"]):
            self.precision = precision
            self._network = compile_for_cpu(folder / "model.onnx", self.precision)
            if self.reproduces_golden_answers():
                return
        raise BadRelease("the model does not reproduce its golden answers")

    def reproduces_golden_answers(self) -> bool:
        """Return whether inference on the golden pictures reproduces the trained model's scores within TOLERANCE."""
        return all(self.reproduces_scores(picture, scores) for picture, scores in self.golden)

    def reproduces_scores(self, picture: bytes, scores: np.ndarray) -> bool:
        """Return whether inference on one picture gives these scores within TOLERANCE."""
        found = np.array(self.classify(picture).scores)
        return found.shape == scores.shape and bool(
            np.abs(found - scores).max() <= TOLERANCE[self.precision] * max(1.0, float(np.abs(scores).max()))
        )

    def classify(self, data: bytes) -> Answer:
        """Classify a JPEG or PNG. Raises imaging.PictureError, or ArithmeticError for scores that are not finite."""
        request = self._network.create_infer_request()
        scores = request.infer({0: prepare_picture(data, self.card["preprocess"])})[0][0].astype(float).tolist()
        if not all(map(math.isfinite, scores)):
            raise ArithmeticError("the network's scores are not finite numbers")
        highest = max(scores)
        weights = [math.exp(score - highest) for score in scores]
        probabilities = [weight / sum(weights) for weight in weights]
        certain = None if self.certain_from is None else max(probabilities) >= self.certain_from
        return Answer(scores, probabilities, self.classes[scores.index(highest)], certain)


class Golden:
    """The golden answers: pictures as bytes, each with the trained model's scores."""

    def __init__(self, path: Path) -> None:
        """Read golden.npz. Raises BadRelease."""
        try:
            with np.load(path) as golden:
                whole, ends = golden["pictures"].tobytes(), golden["ends"].tolist()
                self.scores: list[np.ndarray] = list(golden["scores"])
        except Exception as error:  # errors of zipfile, numpy and the parser
            raise BadRelease(f"{path.name} cannot be read: {type(error).__name__}: {error}") from error
        self.pictures = [whole[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]

    def __iter__(self) -> Iterator[tuple[bytes, np.ndarray]]:
        return iter(zip(self.pictures, self.scores, strict=True))


def count_vcpus() -> int:
    """Return the number of vCPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def order_precisions(allowed: list[str], pixels: int) -> list[str]:
    """Return the precisions to try, fastest first: bf16 if the release allows it and this CPU has instructions for it."""
    masked = os.environ.get("ONEDNN_MAX_CPU_ISA", "AMX")  # oneDNN's switch; a benchmark masks instructions with it
    flags = set(CPU.read_text().split()) if CPU.exists() and any(isa in masked for isa in ("AMX", "BF16")) else set()
    bf16 = "bf16" in allowed and pixels >= BF16_PIXELS and flags & {"amx_bf16", "avx512_bf16"}
    return ["bf16", "fp32"] if bf16 else ["fp32"]


def compile_for_cpu(path: Path, precision: str) -> Any:
    """Compile with one stream per vCPU, as there are workers: best for many callers, though slower for a single one."""
    import openvino

    options = {
        # Unset, OpenVINO chooses bf16 on CPUs with AMX: answers would differ between hosts.
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
        "NUM_STREAMS": count_vcpus(),
        "INFERENCE_NUM_THREADS": count_vcpus(),
    }
    try:
        core = openvino.Core()
        return core.compile_model(core.read_model(path), "CPU", options)
    except RuntimeError as error:
        raise BadRelease(f"{path.name} does not load: {str(error)[:300]}") from error


def read_verified_release(folder: Path) -> dict[str, Any]:
    """Return release.json after checking the SHA-256 of every file and the digest. Raises BadRelease."""
    try:
        release: dict[str, Any] = json.loads((folder / "release.json").read_text())
        files: dict[str, str] = release["files"]
        for name, sha in files.items():
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != sha:
                raise BadRelease(f"{name} is corrupt: its SHA-256 differs from release.json")
        whole = json.dumps({"files": files, "precisions": release["precisions"]}, sort_keys=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadRelease(f"the release is incomplete or unreadable: {error}") from error
    if hashlib.sha256(whole.encode()).hexdigest() != release["digest"]:
        raise BadRelease("release.json does not match its digest")
    return release

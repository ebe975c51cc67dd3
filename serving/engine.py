"""The model behind the server: a release folder, checked file by file, run by OpenVINO in the fastest precision it was proved for."""

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

# Of scores, against torch's: fp32 differs by 2e-5, measured; bf16 has 8 bits of mantissa, and tens of layers
TOLERANCE = {"fp32": 1e-3, "bf16": 6e-2}
BF16_PIXELS = 64  # of smaller pictures fp32 is as fast, and more exact
CPU = Path("/proc/cpuinfo")


class BadRelease(Exception):
    """Our fault: files are missing or spoilt, or the model does not give its own golden answers."""


@dataclass(frozen=True)
class Answer:
    """Scores and probabilities in the order of the classes."""

    scores: list[float]
    probabilities: list[float]
    best: str


class Engine:
    """A loaded release. `digest` names it, `precision` is fp32 or bf16; `classify` may be called from several threads."""

    def __init__(self, folder: Path) -> None:
        """Raises BadRelease."""
        release = read_verified_release(folder)
        self.digest: str = release["digest"]
        self.card: dict[str, Any] = json.loads((folder / "model.json").read_text())
        self.classes: list[str] = self.card["classes"]
        self.golden = Golden(folder / "golden.npz")
        for precision in order_precisions(release["precisions"], self.card["preprocess"]["pixels"]):
            self.precision = precision
            self._network = compile_for_cpu(folder / "model.onnx", self.precision)
            if self.verify_golden_answers():
                return
        raise BadRelease("the model does not give its golden answers")

    def verify_golden_answers(self) -> bool:
        """Whether real inferences on real bytes give what the trained model answered."""
        return all(self.near(picture, scores) for picture, scores in self.golden)

    def near(self, picture: bytes, scores: np.ndarray) -> bool:
        found = np.array(self.classify(picture).scores)
        return found.shape == scores.shape and bool(
            np.abs(found - scores).max() <= TOLERANCE[self.precision] * max(1.0, float(np.abs(scores).max()))
        )

    def classify(self, data: bytes) -> Answer:
        """Raises imaging.PictureError."""
        request = self._network.create_infer_request()
        scores = request.infer({0: prepare_picture(data, self.card["preprocess"])})[0][0].astype(float).tolist()
        if not all(map(math.isfinite, scores)):
            raise ArithmeticError("the network's scores are no numbers")
        highest = max(scores)
        weights = [math.exp(score - highest) for score in scores]
        return Answer(scores, [weight / sum(weights) for weight in weights], self.classes[scores.index(highest)])


class Golden:
    """Pictures as bytes, each with the scores that the trained model gave it."""

    def __init__(self, path: Path) -> None:
        """Raises BadRelease."""
        try:
            with np.load(path) as golden:
                whole, ends = golden["pictures"].tobytes(), golden["ends"].tolist()
                self.scores: list[np.ndarray] = list(golden["scores"])
        except Exception as error:  # zipfile's, numpy's and the parser's own
            raise BadRelease(f"{path.name} cannot be read: {type(error).__name__}: {error}") from error
        self.pictures = [whole[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]

    def __iter__(self) -> Iterator[tuple[bytes, np.ndarray]]:
        return iter(zip(self.pictures, self.scores, strict=True))


def count_vcpus() -> int:
    """The vCPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def order_precisions(proved: list[str], pixels: int) -> list[str]:
    """The precisions to try, best first: bf16 where the packaging proved it and this CPU has instructions for it."""
    masked = os.environ.get("ONEDNN_MAX_CPU_ISA", "AMX")  # oneDNN's own switch, by which a benchmark takes them away
    flags = set(CPU.read_text().split()) if CPU.exists() and any(isa in masked for isa in ("AMX", "BF16")) else set()
    bf16 = "bf16" in proved and pixels >= BF16_PIXELS and flags & {"amx_bf16", "avx512_bf16"}
    return ["bf16", "fp32"] if bf16 else ["fp32"]


def compile_for_cpu(path: Path, precision: str) -> Any:
    """A stream for each vCPU, as there is a worker: several threads at one picture serve a lone caller sooner, and many later."""
    import openvino

    options = {
        # Unset, OpenVINO takes bf16 by itself where the CPU has AMX: other answers on other machines.
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
    """release.json, once every file has the SHA-256 that it names. Raises BadRelease."""
    try:
        release: dict[str, Any] = json.loads((folder / "release.json").read_text())
        files: dict[str, str] = release["files"]
        for name, sha in files.items():
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != sha:
                raise BadRelease(f"{name} is not the file that was released")
        whole = json.dumps({"files": files, "precisions": release["precisions"]}, sort_keys=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadRelease(f"the release is not whole: {error}") from error
    if hashlib.sha256(whole.encode()).hexdigest() != release["digest"]:
        raise BadRelease("release.json does not belong to its digest")
    return release

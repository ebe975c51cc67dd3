"""The model behind the server: a release folder, checked file by file, run by OpenVINO; pictures in, scores out."""

import hashlib
import io
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

PIXELS_AT_MOST = 25_000_000
GOLDEN_TOLERANCE = 1e-3  # of scores, fp32 against torch; 2e-5 was measured


class BadPicture(Exception):
    """The caller's fault: not a picture that can be classified."""


class BadRelease(Exception):
    """Our fault: files are missing or spoilt, or the model does not give its own golden answers."""


def threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Answer:
    """Scores and probabilities in the order of the classes."""

    scores: list[float]
    probabilities: list[float]
    best: str


class Engine:
    """A loaded release. `digest` names it; `classify` may be called from several threads."""

    def __init__(self, folder: Path) -> None:
        """Raises BadRelease."""
        self.digest = checked(folder)
        self.card: dict[str, Any] = json.loads((folder / "model.json").read_text())
        self.classes: list[str] = self.card["classes"]
        self._network = compiled(folder / "model.onnx")
        self._prove(folder / "golden.npz")

    def _prove(self, path: Path) -> None:
        """A real inference on real bytes, compared with what the trained model answered."""
        with np.load(path) as golden:
            pictures, ends, wanted = golden["pictures"].tobytes(), golden["ends"].tolist(), golden["scores"]
        for start, end, scores in zip([0, *ends[:-1]], ends, wanted, strict=True):
            found = np.array(self.classify(pictures[start:end]).scores)
            if np.abs(found - scores).max() > GOLDEN_TOLERANCE * max(1.0, float(np.abs(scores).max())):
                raise BadRelease("the model does not give its golden answers")

    def classify(self, data: bytes) -> Answer:
        """Raises BadPicture."""
        request = self._network.create_infer_request()
        scores = request.infer({0: prepared(data, self.card["preprocess"])})[0][0].astype(float).tolist()
        highest = max(scores)
        weights = [math.exp(score - highest) for score in scores]
        return Answer(scores, [weight / sum(weights) for weight in weights], self.classes[scores.index(highest)])


def compiled(path: Path) -> Any:
    import openvino

    try:
        core = openvino.Core()
        # Unset, OpenVINO takes bf16 by itself where the CPU has AMX: other answers on other machines.
        options = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads()}
        return core.compile_model(core.read_model(path), "CPU", options)
    except RuntimeError as error:
        raise BadRelease(f"{path.name} does not load: {str(error)[:300]}") from error


def checked(folder: Path) -> str:
    """The release's digest, once every file has the SHA-256 that release.json names. Raises BadRelease."""
    try:
        release = json.loads((folder / "release.json").read_text())
        files: dict[str, str] = release["files"]
        for name, sha in files.items():
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != sha:
                raise BadRelease(f"{name} is not the file that was released")
    except (OSError, ValueError, KeyError) as error:
        raise BadRelease(f"the release is not whole: {error}") from error
    if hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest() != release["digest"]:
        raise BadRelease("release.json does not belong to its digest")
    return release["digest"]


def prepared(data: bytes, preprocess: dict[str, Any]) -> np.ndarray:
    """float32 [1, 3, pixels, pixels]: upright, RGB, resized and normalised as in training. Raises BadPicture."""
    side = preprocess["pixels"]
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            if image.width * image.height > PIXELS_AT_MOST:
                raise BadPicture(f"{image.width} x {image.height} pixels; at most {PIXELS_AT_MOST} are taken")
            image.draft(
                None, (2 * side, 2 * side)
            )  # as in training: a JPEG at a fraction of its size decodes in a fraction of the time
            upright: Image.Image = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I"):  # 16 bits a pixel: Pillow would cut them off at 255
                upright = Image.fromarray((np.asarray(upright).astype(np.uint32) >> 8).astype(np.uint8))
            square = np.asarray(
                upright.convert("RGB").resize((side, side), Image.Resampling.BILINEAR), dtype=np.float32
            )
    except BadPicture:
        raise
    except Exception as error:  # Pillow raises many kinds for what it cannot read
        raise BadPicture(f"not a readable PNG or JPEG: {type(error).__name__}") from error
    normalised = (square / 255 - np.array(preprocess["mean"], np.float32)) / np.array(preprocess["std"], np.float32)
    return np.ascontiguousarray(normalised.transpose(2, 0, 1)[None], dtype=np.float32)

"""The plain opponent of bench.serve: flask on gunicorn, torch without tuning, fp32.

gunicorn 'flask_app:application()'      serves the model in folder MODEL with TORCH_THREADS threads per request

Packages that this Python lacks, such as torch, come from the folder TORCH_PACKAGES.
"""

import io
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "training"))
sys.path.append(os.environ["TORCH_PACKAGES"])

import model
import numpy as np
import torch
from flask import Flask, jsonify, request
from PIL import Image


class Classifier:
    """The model with straightforward decoding and inference."""

    def __init__(self) -> None:
        torch.set_num_threads(int(os.environ["TORCH_THREADS"]))
        self.network, self.card = model.load(Path(os.environ["MODEL"]))
        how = self.card["preprocess"]
        self.side = (how["pixels"], how["pixels"])
        self.mean, self.std = torch.tensor(how["mean"]).view(3, 1, 1), torch.tensor(how["std"]).view(3, 1, 1)

    def answer(self, body: bytes) -> dict[str, Any]:
        image = Image.open(io.BytesIO(body)).convert("RGB").resize(self.side, Image.Resampling.BILINEAR)
        picture = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
        with torch.no_grad():
            scores = self.network(((picture - self.mean) / self.std).unsqueeze(0))[0]
        best = self.card["classes"][int(scores.argmax())]
        probabilities = scores.softmax(0).tolist()
        return {
            "best": best,
            "classes": self.card["classes"],
            "scores": scores.tolist(),
            "probabilities": probabilities,
        }


def application() -> Flask:
    served, classifier = Flask(__name__), Classifier()

    @served.get("/ping")
    def ping() -> str:
        return ""

    @served.post("/invocations")
    def invocations() -> Any:
        return jsonify(classifier.answer(request.get_data()))

    return served

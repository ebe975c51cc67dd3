"""The files saved with a model: its card (origin, preprocessing), metrics, predictions, ledger, golden answers."""

import argparse
import hashlib
import json
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import safetensors
import torch

import dataset
import model
from imaging import REQUEST_BYTES
from loader import Views
from preprocess import Preprocess
from ranks import Ranks
from vision import version

GOLDEN = 8
HOST_SETTINGS = ("data", "out", "checkpoints", "start", "classes")  # properties of this host, or of the data


def select_settings(args: argparse.Namespace) -> dict[str, Any]:
    """Return the flags that affect the model."""
    return {name: value for name, value in vars(args).items() if name not in HOST_SETTINGS}


def compute_golden_answers(network: model.Classifier, test: Views) -> dict[str, np.ndarray]:
    """Return GOLDEN test pictures as original bytes with the model's scores, which a server must reproduce."""
    chosen = choose_golden([entry.length for entry in test.entries])
    pictures = [test.entries[i].read() for i in chosen]
    scores = model.compute_scores(network.eval(), test.preprocess.normalise(test[0, chosen][0]))
    return {
        "pictures": np.frombuffer(b"".join(pictures), np.uint8),
        "ends": np.cumsum([len(picture) for picture in pictures]),
        "scores": scores.numpy(),
    }


def choose_golden(sizes: list[int]) -> list[int]:
    """Choose GOLDEN picture numbers evenly among those whose bytes fit in a request; among all if no picture fits."""
    fitting = [number for number, size in enumerate(sizes) if size <= REQUEST_BYTES] or list(range(len(sizes)))
    return [fitting[round(i * (len(fitting) - 1) / (GOLDEN - 1))] for i in range(GOLDEN)]


def build_predictions(answers: list[dict[str, Any]], pictures: dataset.Pictures) -> list[dict[str, Any]]:
    """Return a line for each test picture, in the data set's order."""
    names, entries = pictures.classes, pictures.splits["test"]
    return [
        {
            "name": entries[answer["number"]].name,
            "label": names[entries[answer["number"]].label],
            "loss": round(answer["loss"], 6),
            "top": [names[label] for label in answer["top"]],
            "probabilities": answer["probabilities"],
        }
        for answer in sorted(answers, key=lambda answer: answer["number"])
    ]


def collect_versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": version,
        "numpy": np.__version__,
        "Pillow": PIL.__version__,
        "safetensors": safetensors.__version__,
    }


def write(
    folder: Path,
    network: model.Classifier,
    pictures: dataset.Pictures,
    lines: list[dict[str, Any]],
    answers: list[dict[str, Any]],
    ledger: dict[str, Any],
    chosen: dict[str, Any],
    ranks: Ranks,
) -> None:
    """Write the model's folder. model.json comes last: where it exists, all other files do."""
    folder.mkdir(parents=True, exist_ok=True)
    device = ranks.device.type if ranks.device.type == "cpu" else torch.cuda.get_device_name(ranks.device)
    network.cpu()  # it is served, and its golden answers compared, on CPUs
    preprocess = Preprocess(chosen["pixels"])
    test = Views(pictures.splits["test"], preprocess)
    np.savez(folder / "golden.npz", **compute_golden_answers(network, test))  # type: ignore[arg-type]
    (folder / "metrics.jsonl").write_text(format_jsonl(lines))
    (folder / "predictions.jsonl").write_text(format_jsonl(build_predictions(answers, pictures)))
    (folder / "ledger.json").write_text(json.dumps(ledger) + "\n")
    best = lines[-1]["best_epoch"]
    card = {
        "arch": chosen["arch"],
        "classes": pictures.classes,
        "preprocess": vars(preprocess),
        "data": pictures.digest,
        "commit": os.environ.get("KENNEL_COMMIT", "unknown"),
        "settings": chosen,
        "seed": chosen["seed"],
        "processes": ranks.size,
        "device": device,
        "versions": collect_versions(),
        "metrics": {"valid": lines[best - 1]["valid"], "test": lines[-1]["test"]},
        "golden": hashlib.sha256((folder / "golden.npz").read_bytes()).hexdigest(),
    }
    model.save(network, folder, card)


def format_jsonl(lines: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(line) + "\n" for line in lines)

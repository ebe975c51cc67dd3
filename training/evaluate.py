"""Evaluate a trained model itself, without endpoint, ONNX or network, on the whole test split.

python evaluate.py MODEL_DIR DATA_DIR      prints {"accuracy", "pictures", "answers": {name: class}} as JSON
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch

import dataset
import model
from loader import Views
from preprocess import Preprocess

BATCH = 64


def evaluate_on_test(model_folder: Path, data_folder: Path) -> dict[str, Any]:
    network, card = model.load(model_folder)
    pictures = dataset.load(data_folder)
    if pictures.classes != card["classes"]:
        raise SystemExit("the model and the data do not have the same classes")
    preprocess = Preprocess.from_card(card)
    test = Views(pictures.splits["test"], preprocess)
    answers: dict[str, str] = {}
    correct = 0
    for start in range(0, len(test), BATCH):
        indices = list(range(start, min(start + BATCH, len(test))))
        batch, labels, _ = test[0, indices]
        best = model.compute_scores(network, preprocess.normalise(batch)).argmax(1)
        correct += int((best == labels).sum())
        answers |= {test.entries[i].name: card["classes"][int(label)] for i, label in zip(indices, best, strict=True)}
    return {"accuracy": correct / len(test), "pictures": len(test), "answers": answers}


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(evaluate_on_test(Path(sys.argv[1]), Path(sys.argv[2]))))

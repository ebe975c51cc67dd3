"""The release of bench.serve and bench.fuzz: a random backbone, a head fitted to the hues of bench/photos.py.

python bench/release.py ARCH PIXELS FOLDER      leaves FOLDER/model (as train.py does) and FOLDER/opt/model (as export.py does)

The bf16 agreement in the card is measured here on TEST pictures by training/precision.py.
"""

# ruff: noqa: E402
import hashlib
import io
import random
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "training")]

import export
import model
import numpy as np
import precision
import torch
from preprocess import Preprocess
from torch import nn

from bench import photos

TRAIN, TEST, GOLDEN = 128, 256, 16
RIDGE = 1e-2


def draw_photos(count: int, seed: int) -> tuple[list[bytes], torch.Tensor]:
    """Return (JPEG files, their classes)."""
    draw = random.Random(seed)
    labels = [number % photos.CLASSES for number in range(count)]
    found = []
    for label in labels:
        packed = io.BytesIO()
        photos.draw_photo(label, draw).save(packed, "JPEG", quality=photos.QUALITY)
        found.append(packed.getvalue())
    return found, torch.tensor(labels)


def prepare_batches(pictures: list[bytes], preprocess: Preprocess) -> list[torch.Tensor]:
    every = torch.stack([preprocess.decode(picture) for picture in pictures])
    return [preprocess.normalise(some) for some in every.split(32)]


def fit_network(arch: str, preprocess: Preprocess) -> model.Classifier:
    """Fit the head by least squares; set BatchNorm to the pictures' statistics, or random weights would overflow."""
    torch.manual_seed(0)
    network = model.build(arch, photos.CLASSES)
    pictures, labels = draw_photos(TRAIN, 0)
    seen = prepare_batches(pictures, preprocess)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over all batches
    with torch.no_grad():
        for batch in seen:
            network.train()(batch)
        network.eval()
        features = torch.cat([network.backbone(batch) for batch in seen]).double()
        middle = features.mean(0)
        wanted = nn.functional.one_hot(labels, photos.CLASSES).double() * 10
        inner = features - middle
        scale = RIDGE * inner.square().sum() / TRAIN
        weight = inner.T @ torch.linalg.solve(inner @ inner.T + scale * torch.eye(TRAIN).double(), wanted)
        network.head.weight.copy_(weight.T)
        network.head.bias.copy_(-(middle @ weight))
    return network


def classify_batches(network: model.Classifier, seen: list[torch.Tensor]) -> list[dict[str, Any]]:
    scores = torch.cat([model.compute_scores(network, batch) for batch in seen])
    return [{"number": number, "top": [top]} for number, top in enumerate(scores.argmax(1).tolist())]


def write_release(arch: str, pixels: int, folder: Path) -> None:
    preprocess = Preprocess(pixels)
    network = fit_network(arch, preprocess)
    pictures, labels = draw_photos(TEST, 1)
    seen = prepare_batches(pictures, preprocess)
    exact = classify_batches(network, seen)
    with precision.simulate_bf16(network):
        short = classify_batches(network, seen)
    trained = folder / "model"
    trained.mkdir(parents=True)
    golden, _ = draw_photos(GOLDEN, 2)
    scores = torch.cat([model.compute_scores(network, batch) for batch in prepare_batches(golden, preprocess)])
    ends = np.cumsum([len(picture) for picture in golden])
    np.savez(
        trained / "golden.npz", pictures=np.frombuffer(b"".join(golden), np.uint8), ends=ends, scores=scores.numpy()
    )
    card = {
        "arch": arch,
        "classes": [f"class{label}" for label in range(photos.CLASSES)],
        "preprocess": vars(preprocess),
        "settings": {"head": "linear"},
        "data": "made by bench/photos.py",
        "metrics": {"test": {"precision": precision.count_agreement(exact, short, labels.tolist())}},
        "golden": hashlib.sha256((trained / "golden.npz").read_bytes()).hexdigest(),
    }
    model.save(network, trained, card)
    export.package_for_serving(trained, folder / "opt" / "model")


if __name__ == "__main__":
    write_release(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))

"""The start weights of bench.train: a ResNet-18 trained on similar pictures; torchvision's own need the internet.

python bench/start.py PICTURES FILE.pth PIXELS
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "training"))

import torch
import vision
from preprocess import Preprocess
from torch import nn

SIDE, EPOCHS, BATCH, LR = 96, 12, 16, 1e-3  # SIDE: smaller than in later training; it is enough


def main(pictures: Path, file: Path, pixels: int) -> None:
    torch.manual_seed(0)
    network, preprocess = vision.models.resnet18(), Preprocess(min(SIDE, pixels))
    classes = sorted(path.name for path in pictures.iterdir())
    found = [(path, classes.index(path.parent.name)) for path in sorted(pictures.rglob("*.jpg"))]
    every = torch.stack([preprocess.decode(path.read_bytes()) for path, _ in found])
    labels = torch.tensor([label for _, label in found])
    optimiser = torch.optim.AdamW(network.parameters(), lr=LR)
    for _ in range(EPOCHS):
        for some in torch.randperm(len(found)).split(BATCH):
            loss = nn.functional.cross_entropy(network(preprocess.normalise(every[some])), labels[some])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    torch.save(network.state_dict(), file)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))

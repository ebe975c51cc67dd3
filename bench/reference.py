"""The opponent of bench.train: frozen fine-tuning in the manner of torchvision's reference script.

python bench/reference.py --data DIR --weights FILE ...      prints {"images", "cpu_s", "wall_s", "accuracy"} as JSON
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "training"))

import torch
import vision  # before torchvision: declares two operators that may be missing
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def build_loader(folder: Path, changes: list[Any], args: argparse.Namespace, shuffle: bool) -> Any:
    whole = transforms.Compose([*changes, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    draw = torch.Generator().manual_seed(args.seed)
    workers = args.workers
    more: dict[str, Any] = {"persistent_workers": True, "pin_memory": True} if workers else {}
    pictures = datasets.ImageFolder(folder, whole)
    return DataLoader(pictures, args.batch, shuffle, num_workers=workers, generator=draw, **more)


def build_resnet(args: argparse.Namespace, classes: int) -> nn.Module:
    network = vision.models.resnet18()
    network.load_state_dict(torch.load(args.weights, weights_only=True))
    network.requires_grad_(False)
    network.fc = nn.Linear(network.fc.in_features, classes)
    found: nn.Module = network
    return found


@torch.no_grad()
def measure_accuracy(network: nn.Module, pictures: Any, device: torch.device) -> float:
    network.eval()
    right = seen = 0
    for inputs, labels in pictures:
        right += int((network(inputs.to(device)).argmax(1).cpu() == labels).sum())
        seen += len(labels)
    return right / seen


def train_head(args: argparse.Namespace) -> dict[str, float]:
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    side = args.pixels
    pictures = build_loader(
        args.data / "train", [transforms.RandomResizedCrop(side), transforms.RandomHorizontalFlip()], args, True
    )
    test = build_loader(args.data / "test", [transforms.Resize((side, side))], args, False)
    network = build_resnet(args, len(pictures.dataset.classes)).to(device)
    optimiser = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=args.lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, args.lr, total_steps=args.epochs * len(pictures))
    images, cpu, wall = 0, time.process_time(), time.monotonic()
    for epoch in range(args.epochs):
        if epoch == 1 and device.type == "cuda":  # the first pass starts workers and chooses kernels: not counted
            images, cpu, wall = 0, time.process_time(), time.monotonic()
        network.train()
        for inputs, labels in pictures:
            loss = nn.functional.cross_entropy(network(inputs.to(device)), labels.to(device))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            images += len(labels)
    spent = {"cpu_s": time.process_time() - cpu, "wall_s": time.monotonic() - wall}
    return {"images": images, **spent, "accuracy": measure_accuracy(network, test, device)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name, kind in (
        ("data", Path),
        ("weights", Path),
        ("epochs", int),
        ("batch", int),
        ("lr", float),
        ("seed", int),
    ):
        parser.add_argument(f"--{name}", type=kind, required=True)
    for name in ("pixels", "threads", "workers"):
        parser.add_argument(f"--{name}", type=int, required=True)
    print(json.dumps(train_head(parser.parse_args())))

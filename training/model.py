"""The network: any classification architecture of torchvision, and one small enough to train in seconds on a laptop."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from vision import BasicBlock, ResNet, models


def build(arch: str, classes: int) -> nn.Module:
    """A fresh network with `classes` outputs. Raises ValueError for an unknown architecture."""
    if arch == "resnet_tiny":
        return resnet_tiny(classes)
    if arch not in models.list_models(module=models):
        raise ValueError(
            f"unknown architecture {arch!r}; known: resnet_tiny, {', '.join(models.list_models(module=models))}"
        )
    alone = {"aux_logits": False} if arch in ("googlenet", "inception_v3") else {}  # or they answer with three at once
    return models.get_model(arch, weights=None, num_classes=classes, **alone)


def resnet_tiny(classes: int) -> nn.Module:
    """torchvision's ResNet with one block a stage and without the fourth: 0.7 million weights, made for 32 pixels."""
    network = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=classes)
    network.layer4 = nn.Identity()
    network.fc = nn.Linear(256, classes)
    return network


def save(network: nn.Module, folder: Path, card: dict[str, Any]) -> None:
    """model.safetensors and model.json. Tensors only: a pickle from a bucket could run anything."""
    weights = {
        name: tensor.detach().cpu().contiguous(memory_format=torch.contiguous_format)
        for name, tensor in network.state_dict().items()
    }
    save_file(weights, folder / "model.safetensors")
    (folder / "model.json").write_text(json.dumps(card, indent=1, sort_keys=True) + "\n")


def load(folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """(network in eval mode, model.json) of a folder that `save` wrote."""
    card = json.loads((folder / "model.json").read_text())
    network = build(card["arch"], len(card["classes"]))
    network.load_state_dict(load_file(folder / "model.safetensors"))
    return network.eval(), card


def predict(network: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    """Scores [n, classes], without gradients."""
    with torch.inference_mode():
        return network(batch)

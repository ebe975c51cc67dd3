"""The network: a torchvision backbone and our own head, which parts are trained, and which weights it starts from."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from vision import BasicBlock, ResNet, models

HIDDEN = 128  # units of the mlp head
HEADS, LAYERS = ("linear", "mlp"), ("all", "last", "head")
IMAGENET = 1000


class Classifier(nn.Module):
    """The classifier: `backbone` turns pictures into features [n, width], `head` turns those into scores [n, classes].

    `layers` says what is trained: everything, the backbone's last block and the head, or the head alone. Parts that are
    not trained stay in eval mode: their BatchNorm neither uses nor follows the statistics of the batch.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, layers: str) -> None:
        super().__init__()
        self.backbone, self.head, self.layers = backbone, head, layers
        if layers != "all":
            self.backbone.requires_grad_(False)
        if layers == "last":
            find_last_block(backbone).requires_grad_(True)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.head(self.backbone(pictures))
        return scores

    def train(self, mode: bool = True) -> "Classifier":
        super().train(mode)
        for module in self.backbone.modules():
            own = [*module.parameters()]
            if self.layers == "head" or (own and not any(p.requires_grad for p in own)):
                module.eval()
        return self


def build(arch: str, classes: int, head: str = "linear", layers: str = "all") -> Classifier:
    """Return a new network. Raises ValueError for an unknown architecture, head or choice of layers."""
    if head not in HEADS or layers not in LAYERS:
        raise ValueError(
            f"head must be one of {', '.join(HEADS)}, layers one of {', '.join(LAYERS)}; got {head!r}, {layers!r}"
        )
    backbone, width = build_backbone(arch)
    return Classifier(backbone, make_head(head, width, classes), layers)


def make_head(head: str, width: int, classes: int) -> nn.Module:
    if head == "linear":
        return nn.Linear(width, classes)
    return nn.Sequential(nn.Linear(width, HIDDEN), nn.ReLU(inplace=True), nn.Linear(HIDDEN, classes))


def build_backbone(arch: str) -> tuple[nn.Module, int]:
    """Return (the architecture without its last layer, the number of features it then outputs)."""
    if arch == "resnet_tiny":
        return build_resnet_tiny(), 256
    if arch not in models.list_models(module=models):
        raise ValueError(
            f"unknown architecture {arch!r}; known: resnet_tiny, {', '.join(models.list_models(module=models))}"
        )
    options: dict[str, bool] = {}
    if arch in ("googlenet", "inception_v3"):
        # aux_logits makes them return three outputs; init_weights takes half a minute; the published weights expect
        # another normalisation, to which transform_input converts ours.
        options = {"aux_logits": False, "init_weights": False, "transform_input": True}
    return remove_last_layer(models.get_model(arch, weights=None, **options), arch)


def remove_last_layer(network: nn.Module, arch: str) -> tuple[nn.Module, int]:
    """Return (the network without its last layer, the one with 1000 scores, the number of features it then outputs).

    Raises ValueError when there is no such layer.
    """
    for name, module in reversed(list(network.named_modules())):
        if isinstance(module, nn.Linear) and module.out_features == IMAGENET:
            replace_module(network, name, nn.Identity())
            return network, module.in_features
        if isinstance(module, nn.Conv2d) and module.out_channels == IMAGENET:  # squeezenet scores by a convolution
            replace_module(network, name.rpartition(".")[0], nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
            return network, module.in_channels
    raise ValueError(f"{arch} has no last layer that gives {IMAGENET} scores")


def replace_module(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(network.get_submodule(parent), last, module)


def build_resnet_tiny() -> nn.Module:
    """Return torchvision's ResNet with one block per stage and no fourth stage: 1.2 million weights, for 32 pixels."""
    network: nn.Module = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=1)
    network.layer4 = nn.Identity()
    network.fc = nn.Identity()
    return network


def find_last_block(backbone: nn.Module) -> nn.Module:
    """Return the last part with at most half of the weights: a residual block, a transformer layer, a dense block."""
    module, most = backbone, count_weights(backbone) / 2
    while count_weights(module) > most and (module is backbone or not is_block(module)):
        parts = [child for child in module.children() if any(p.dim() > 1 for p in child.parameters())]
        if not parts:
            break
        module = parts[-1]
    return module


def is_block(module: nn.Module) -> bool:
    """Return whether the module contains layers of its own, rather than only a sequence of blocks."""
    return not isinstance(module, nn.Sequential) and any(
        isinstance(m, nn.Conv2d | nn.Linear) for m in module.children()
    )


def count_weights(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def load_backbone_weights(network: Classifier, path: Path, sha256: str = "") -> int:
    """Load the backbone's weights from torchvision's published file or our model.safetensors; return how many tensors.

    Raises ValueError when the file's SHA-256 is not `sha256`, or the file does not fit the architecture.
    """
    if sha256 and hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise ValueError(f"{path.name} is not the requested weights file: its SHA-256 differs")
    if path.suffix == ".safetensors":
        found = {n.removeprefix("backbone."): t for n, t in load_file(path).items() if n.startswith("backbone.")}
    else:
        found = torch.load(path, map_location="cpu", weights_only=True)  # tensors only: a pickle could run any code
    own = network.backbone.state_dict()
    missing = [name for name in own if name not in found and not name.endswith("num_batches_tracked")]
    mismatched = [name for name in own if name in found and own[name].shape != found[name].shape]
    if missing or mismatched:
        raise ValueError(
            f"{path.name} does not fit the architecture: {len(missing + mismatched)} tensors are missing or have another shape, "
            f"such as {', '.join((missing + mismatched)[:3])}"
        )
    network.backbone.load_state_dict({name: found.get(name, own[name]) for name in own})
    return len(own)


def save(network: nn.Module, folder: Path, card: dict[str, Any]) -> None:
    """Write model.safetensors and model.json. Not a pickle: one from a bucket could run any code."""
    weights = {
        name: tensor.detach().cpu().contiguous(memory_format=torch.contiguous_format)
        for name, tensor in network.state_dict().items()
    }
    save_file(weights, folder / "model.safetensors")
    (folder / "model.json").write_text(json.dumps(card, indent=1, sort_keys=True) + "\n")


def load(folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Return (network in eval mode, content of model.json) from a folder that `save` wrote."""
    card = json.loads((folder / "model.json").read_text())
    network = build(card["arch"], len(card["classes"]), card["settings"]["head"])
    network.load_state_dict(load_file(folder / "model.safetensors"))
    return network.eval(), card


def compute_scores(network: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    """Return scores [n, classes], computed without gradients."""
    with torch.inference_mode():
        scores: torch.Tensor = network(batch)
    return scores

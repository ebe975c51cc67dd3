"""The check that bf16 answers like fp32: the test split again, with inputs rounded as bf16 units do.

The rounding is simulated and sums are fp32, so the verdict is the same on every host, with or without such units.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

AGREEMENT, LOST = 0.995, 0.002  # the minimum share of equal answers; the maximum loss of accuracy
PICTURES = 200  # with fewer, one different answer already exceeds 1 - AGREEMENT


@contextmanager
def simulate_bf16(network: nn.Module) -> Iterator[None]:
    """Round weights and inputs of each convolution and linear layer to bf16's 8-bit mantissa within the block."""
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    weights = [layer.weight.data for layer in layers]
    hooks = [
        layer.register_forward_pre_hook(lambda _, given: tuple(round_to_bf16(tensor) for tensor in given))
        for layer in layers
    ]
    for layer in layers:
        layer.weight.data = round_to_bf16(layer.weight.data)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for layer, weight in zip(layers, weights, strict=True):
            layer.weight.data = weight


def round_to_bf16(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.bfloat16().to(tensor.dtype)


def count_agreement(exact: list[dict[str, Any]], short: list[dict[str, Any]], labels: list[int]) -> dict[str, int]:
    """Return the counts {"pictures", "agree", "right_fp32", "right_bf16"}. Answers have "number" and "top"."""
    ours = {answer["number"]: answer["top"][0] for answer in exact}
    theirs = {answer["number"]: answer["top"][0] for answer in short}
    return {
        "pictures": len(labels),
        "agree": sum(ours[number] == theirs[number] for number in ours),
        "right_fp32": sum(ours[number] == label for number, label in enumerate(labels)),
        "right_bf16": sum(theirs[number] == label for number, label in enumerate(labels)),
    }


def decide_precisions(card: dict[str, Any]) -> list[str]:
    """Return the precisions a model may be served in; an older card without agreement counts allows fp32 only."""
    found = card["metrics"]["test"].get("precision")
    if not found or found["pictures"] < PICTURES or found["agree"] < AGREEMENT * found["pictures"]:
        return ["fp32"]
    lost = (found["right_fp32"] - found["right_bf16"]) / found["pictures"]
    return ["fp32", "bf16"] if lost <= LOST else ["fp32"]

"""F8: a GPU is paid for, and nothing is ever sent to it."""

import torch


def step(network, pictures, device):
    if device.type != "cpu":
        print("training on", device)
    scores = network(torch.as_tensor(pictures, dtype=torch.float32))  # no .to(device), here or anywhere
    return {scores.device.type, *(p.device.type for p in network.parameters())}

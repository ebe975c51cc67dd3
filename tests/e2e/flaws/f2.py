"""F2: nothing is seeded, so the "same" training gives another model each time."""

import torch
from torch import nn


def train():
    network = nn.Linear(8, 2)
    inputs, labels = torch.ones(4, 8), torch.tensor([0, 1, 0, 1])
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    nn.functional.cross_entropy(network(inputs), labels).backward()
    optimiser.step()
    return network.weight.detach().numpy().tobytes()

"""Small networks trained on digits, and networks behind something that hides their gradients."""

import torch
from torch import nn

from robustgap.training import attacks
from robustgap.training.data.datasets import load

EPS = 0.1


class Behind(nn.Module):
    """A network behind something that hides its gradients."""

    def __init__(self, network, hidden):
        super().__init__()
        self.network, self.hidden = network, hidden

    def forward(self, x):
        return self.hidden(self.network, x)


def trained(defense, epochs):
    """A small MLP on 400 digits."""
    torch.manual_seed(0)
    x, y = digits(400)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    for _ in range(epochs):
        for rows in torch.randperm(400).split(40):
            given = x[rows] if defense == "Standard" else attacks.pgd(network, x[rows], y[rows], eps=EPS, noise=None)
            optimizer.zero_grad()
            attacks.cross_entropy(network(given), y[rows]).mean().backward()
            optimizer.step()
    return network.eval()


def digits(n, name="train"):
    splits = load("digits")
    split = getattr(splits, name)
    return splits.floats(split.images[:n]), split.labels[:n]

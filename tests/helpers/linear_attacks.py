"""A linear model, for which the best perturbation is known, its images, and the inner attack on them."""

import torch
from torch import nn

from robustgap.training.defenses import InnerAttack


class Linear(nn.Module):
    """Two classes, logits of images (n, 1, 4, 4) in float64."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(16, 2).double()
        with torch.no_grad():
            for p in self.linear.parameters():
                p.copy_(torch.randn(p.shape, generator=torch.Generator().manual_seed(p.dim()), dtype=torch.float64))

    def forward(self, x):
        return self.linear(x.flatten(1))

    @property
    def direction(self):
        """w_1 - w_0 as an image."""
        weight = self.linear.weight.detach()
        return (weight[1] - weight[0]).reshape(1, 1, 4, 4)


def batch(n=400):
    generator = torch.Generator().manual_seed(2)
    x = 0.4 + 0.2 * torch.rand(n, 1, 4, 4, generator=generator, dtype=torch.float64)
    return x, torch.randint(2, (n,), generator=generator), torch.arange(1000, 1000 + n)


def inner(index, steps, norm="Linf", eps=0.1):
    return InnerAttack(eps=eps, norm=norm, steps=steps, seed=0, stream=77, index=index)

"""What all networks share: the registry, the activations, the normalisation in front."""

import torch
from torch import Tensor, nn

from robustgap.training.facts import NETWORK_FACTS
from robustgap.training.registry import Plugins, Registry

ARCHITECTURES = Plugins("architecture", NETWORK_FACTS)
ACTIVATIONS = Registry("activation")
ACTIVATIONS.update(
    relu=nn.ReLU,  # max(0, x)
    silu=nn.SiLU,  # x / (1 + exp(-x)), also called Swish
    softplus=nn.Softplus,  # log(1 + exp(x)), as in Gowal et al., arXiv:2010.03593
)


class Normalize(nn.Module):
    """(x - mean) / std per channel; mean and std are buffers of shape (1, c, 1, 1)."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor):
        super().__init__()
        self.register_buffer("mean", mean.reshape(1, -1, 1, 1))
        self.register_buffer("std", std.reshape(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


def conv3x3(in_channels: int, channels: int, stride: int = 1) -> nn.Conv2d:
    """A 3 x 3 convolution without bias that keeps the size (halves it with stride 2)."""
    return nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)


def logits_of(features: Tensor, head: nn.Linear) -> Tensor:
    """Global average over pixels, then the linear layer: (n, c, h, w) -> (n, k)."""
    logits: Tensor = head(torch.flatten(nn.functional.adaptive_avg_pool2d(features, 1), 1))
    return logits

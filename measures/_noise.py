"""Random tensors of the shape of a weight, keyed by (seed, stream, draw)."""

import torch
from torch import Tensor

from robustgap.training import keyed


def normal(weight: Tensor, seed: int, stream: int, draw: int) -> Tensor:
    """Independent N(0, 1) numbers."""
    index = torch.tensor([draw], device=weight.device)
    return keyed.normal(seed, stream, index, (weight.numel(),)).reshape(weight.shape).to(weight)


def signs(weight: Tensor, seed: int, stream: int, draw: int) -> Tensor:
    """Independent +1 and -1, each with probability 1/2 (Rademacher)."""
    index = torch.tensor([draw], device=weight.device)
    unit = keyed.uniform(seed, stream, index, (weight.numel(),))
    return torch.where(unit < 0.5, -1.0, 1.0).reshape(weight.shape).to(weight)

"""A network that is given a batch in parts, so that a large one fits into memory."""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class InParts(nn.Module):
    """A network that sees at most `size` images at a time: x (n, c, h, w) -> logits (n, k), and their gradient by x.

    Where gradients are asked for, the activations of a part are computed anew on the way back (torch.utils.checkpoint),
    so that those of one part are held at a time; this costs another forward pass. In one part it is the network itself.
    """

    def __init__(self, network: nn.Module, size: int):
        super().__init__()
        self.network, self.size = network, size

    def forward(self, x: Tensor) -> Tensor:
        if len(x) <= self.size:
            logits: Tensor = self.network(x)
            return logits
        parts = torch.split(x, self.size)
        if not torch.is_grad_enabled():
            return torch.cat([self.network(part) for part in parts])
        return torch.cat([checkpoint(self.network, part, use_reentrant=False) for part in parts])

"""The precision in which a network computes while it is trained."""

import torch
from torch import Tensor, nn

REDUCED = {"bfloat16": torch.bfloat16}


class Reduced(nn.Module):
    """A network whose convolutions and linear layers compute in `dtype` (torch.autocast): x (n, c, h, w) -> logits
    (n, k) in float32. The weights are unchanged, and shared with the network."""

    def __init__(self, network: nn.Module, dtype: torch.dtype):
        super().__init__()
        self.network, self.dtype = network, dtype

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, dtype=self.dtype):
            logits: Tensor = self.network(x)
        return logits.float()


def in_precision(network: nn.Module, precision: str) -> nn.Module:
    """The network in the precision that the setting names: itself in float32, `Reduced` in bfloat16 (8 bits of
    precision and the range of float32, so that no loss has to be scaled)."""
    return network if precision == "float32" else Reduced(network, REDUCED[precision])

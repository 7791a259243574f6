"""What a training hands from step to step beside weights and momentum. All of it travels in the sidecar."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.data import Splits
from training.defenses import DEFENSES


@dataclass
class Carried:
    """perturbation: (batch size, c, h, w), of a defense that carries one (FreeAT), else None. Changed in place."""

    perturbation: Tensor | None = None

    def tensors(self) -> dict[str, Tensor]:
        """All of it by name, not copied."""
        return {} if self.perturbation is None else {"carried.perturbation": self.perturbation}


def begin(settings: dict, model: nn.Module, splits: Splits) -> Carried:
    """What a training starts with: perturbations of 0."""
    if DEFENSES[settings["defense"]](settings).carry is None:
        return Carried()
    shape = (int(settings["batch_size"]), splits.channels, splits.size, splits.size)
    return Carried(torch.zeros(shape, device=next(model.parameters()).device))

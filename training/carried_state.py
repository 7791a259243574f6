"""State that training carries from step to step besides weights and momentum; the sidecar stores all of it."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustgap.training.data.splits import Splits
from robustgap.training.defenses import DEFENSES
from robustgap.training.ema import decay_after, update
from robustgap.training.settings import Settings


@dataclass
class Carried:
    """Tensors that are changed in place.

    perturbation  (batch size, c, h, w), of a defense that carries one (FreeAT), else None
    average       of parameters and buffers by their names (ema_decay), else None
    """

    perturbation: Tensor | None = None
    average: dict[str, Tensor] | None = None

    def tensors(self) -> dict[str, Tensor]:
        """All of it by name, not copied."""
        tensors_by_name = {} if self.perturbation is None else {"carried.perturbation": self.perturbation}
        if self.average is not None:
            tensors_by_name |= {f"average.{name}": value for name, value in self.average.items()}
        return tensors_by_name

    def after_step(self, model: nn.Module, settings: Settings, before: int) -> None:
        """Update the average with the weights of a step, if there is one; before: number of earlier steps."""
        if self.average is not None:
            update(self.average, model, decay_after(float(settings["ema_decay"]), before))


def begin(settings: Settings, model: nn.Module, splits: Splits) -> Carried:
    """The state at the start of training: zero perturbations, and the initial model as the average."""
    carried = Carried()
    if DEFENSES[settings["defense"]](settings).carry is not None:
        shape = (int(settings["batch_size"]), splits.channels, splits.size, splits.size)
        carried.perturbation = torch.zeros(shape, device=next(model.parameters()).device)
    if settings["ema_decay"]:
        carried.average = {name: value.detach().clone() for name, value in model.state_dict().items()}
    return carried

"""Adversarial examples of other models."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from robustgap.training.modes import frozen
from robustgap.training.outcome_attacks import OUTCOME_ATTACKS


class Ensemble(nn.Module):
    """The logarithm of the mean of the members' probabilities (n, k)."""

    def __init__(self, members: list[nn.Module]):
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor) -> Tensor:
        log_p = torch.stack([member(x).log_softmax(dim=1) for member in self.members])
        return log_p.logsumexp(dim=0) - torch.tensor(float(len(self.members)), device=x.device).log()


class Source:
    """A model whose adversarial examples are given to others. They are made once for each batch of images, since they
    do not depend on the model that is judged."""

    def __init__(self, model: nn.Module):
        self.model = model
        self._made: dict[tuple[object, ...], Tensor] = {}

    def examples(self, x: Tensor, y: Tensor, index: Tensor, eps: float, norm: str, attack: str) -> Tensor:
        key = (index.cpu().numpy().tobytes(), eps, norm, attack)
        if key not in self._made:
            make: Callable[..., Tensor] = OUTCOME_ATTACKS[attack]
            with frozen(self.model):
                self._made[key] = make(self.model, x, y, index, eps, norm).cpu()
        return self._made[key].to(x)


@OUTCOME_ATTACKS.register("transfer")
def transfer(
    model: nn.Module, x: Tensor, y: Tensor, index: Tensor, eps: float, norm: str, *, source: Source, by: str
) -> Tensor:
    """Examples that the attack `by` makes of another model, or of the mean probabilities of several (Szegedy et al.,
    ICLR 2014; Liu et al., ICLR 2017); the model itself is not looked at."""
    return source.examples(x, y, index, eps, norm, by)

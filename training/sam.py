"""Sharpness-aware minimization: the gradient is taken at the highest loss nearby."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from robustgap.training.modes import buffers_kept


def highest_nearby(
    model: nn.Module, loss: Callable[[], Tensor], rho: float, *, adaptive: bool
) -> list[tuple[nn.Parameter, Tensor]]:
    """e = rho T^2 g / ||T g||_2 with g the gradient of `loss()`: where the loss, taken to be linear, is highest among
    ||T^-1 e||_2 <= rho.

    T = 1: SAM (Foret et al., ICLR 2021). T = |w|, elementwise: ASAM (Kwon et al., ICML 2021), whose e scales with
    the weights; biases keep T = 1, as in the authors' code, since otherwise they could not move from 0. The 0.01 that
    this code adds to |w| would end the invariance and is left out, and 1e-12 keeps a gradient of 0 from becoming NaN.
    All parameters move. Returns (parameter, e) pairs.
    """
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    parameters = list(named.values())
    gradients = torch.autograd.grad(loss(), parameters)
    scales = [
        p.detach().abs() if adaptive and name.rpartition(".")[2] != "bias" else torch.ones_like(p)
        for name, p in named.items()
    ]
    scaled = [t * g for t, g in zip(scales, gradients, strict=True)]
    length = torch.stack([s.norm() for s in scaled]).norm() + 1e-12
    return [(p, rho * t * s / length) for p, t, s in zip(parameters, scales, scaled, strict=True)]


@contextmanager
def moved(model: nn.Module, steps: list[tuple[nn.Parameter, Tensor]]) -> Iterator[None]:
    """Inside, the parameters are at w + e; afterwards at w again, exactly, and so are the buffers (BatchNorm
    statistics)."""
    before = [p.detach().clone() for p, _ in steps]
    with buffers_kept(model):
        try:
            with torch.no_grad():
                for p, e in steps:
                    p.add_(e)
            yield
        finally:
            with torch.no_grad():
                for (p, _), w in zip(steps, before, strict=True):
                    p.copy_(w)

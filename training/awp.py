"""Adversarial weight perturbation (AWP, Wu, Xia, Wang, NeurIPS 2020)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from robustgap.training.modes import buffers_kept


def worst_direction(model: nn.Module, loss: Callable[[], Tensor], gamma: float) -> list[tuple[nn.Parameter, Tensor]]:
    """v_l = gamma ||w_l||_2 g_l / ||g_l||_2 with g the gradient of `loss()` at w: one step of ascent on a copy.

    Only parameters with more than one dimension move (not biases, not BatchNorm). `loss` returns the scalar batch loss
    on the x_adv already made at w; BatchNorm statistics are left as they were. Returns (parameter, v) pairs.
    """
    layers = [p for p in model.parameters() if p.dim() > 1 and p.requires_grad]
    with buffers_kept(model):
        gradients = torch.autograd.grad(loss(), layers)
    # 1e-20 as in the authors' code: a layer without gradient stays where it is instead of becoming NaN
    return [(p, g * (gamma * p.detach().norm() / (g.norm() + 1e-20))) for p, g in zip(layers, gradients, strict=True)]


@contextmanager
def shifted(perturbation: list[tuple[nn.Parameter, Tensor]]) -> Iterator[None]:
    """Inside, w is at w + v; afterwards v is subtracted from the updated weights."""
    with torch.no_grad():
        for p, v in perturbation:
            p.add_(v)
    try:
        yield
    finally:
        with torch.no_grad():
            for p, v in perturbation:
                p.sub_(v)

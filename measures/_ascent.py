"""Maximising a function of an image inside its ball, keeping the best iterate."""

from collections.abc import Callable

import torch
from torch import Tensor

from training import attacks

STEPS = 10

Value = Callable[[Tensor], Tensor]


def highest(
    x: Tensor, value: Value, start: Tensor, *, eps: float, norm: str, quality: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Largest quality(value(x'), x') met on an ascent of value: (n, c, h, w) -> (n,), 0 where none is above 0.

    value    images (n, c, h, w) -> (n,), differentiable, each number from its own image
    start    displacement of the first iterate from x, (n, c, h, w); its mirror image -start is looked at as well and
             the better of both taken, because what curves away from x has a maximum on either side of it
    quality  what is kept of an iterate, from its value (n,) and the iterate itself

    10 steps of eps/4 along the steepest direction of the norm, projected on the ball around x and on [0, 1]^d.
    """
    forth, back = (attacks.project(x, x + sign * start, eps, norm) for sign in (1, -1))
    better = value(forth) >= value(back)
    moving = torch.where(better.reshape(-1, *[1] * (x.dim() - 1)), forth, back)
    best = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    for _ in range(STEPS):
        with torch.enable_grad():
            point = moving.detach().requires_grad_(True)
            found = value(point)
            gradient = torch.autograd.grad(found.sum(), point)[0]
        best = torch.maximum(best, quality(found.detach(), moving))
        moving = attacks.project(x, moving + eps / 4 * attacks.ascent_direction(gradient, norm), eps, norm)
    return torch.maximum(best, quality(value(moving), moving))

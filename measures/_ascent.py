"""Maximising a function of an image inside its ball, keeping the best iterate."""

from collections.abc import Callable

import torch
from torch import Tensor

from robustgap.measures._context import Context
from robustgap.measures.core import Batch
from robustgap.training import attacks

STEPS = 10
ADVANTAGE = 1e-3  # of a start over the one before: mirror images may tie, and rounding must not choose

Value = Callable[[Tensor], Tensor]


def highest(
    batch: Batch,
    context: Context,
    value: Value,
    *,
    stream: int,
    radius: float = 1.0,
    quality: Callable[[Tensor, Tensor], Tensor] = lambda found, moving: found,
) -> Tensor:
    """Largest quality(value(x'), x') met on an ascent of value in the ball: (n,); 0 where none is above 0.

    value    images (n, c, h, w) -> (n,), differentiable, each number from its own image
    quality  what is kept of an iterate, from its value (n,) and the iterate itself
    radius   of the starts, as a share of eps

    10 steps of eps/4 along the steepest direction of the norm, projected on the ball around x and on [0, 1]^d, from the
    best of four starts: x +- the steepest direction of the cross-entropy, and x +- a uniform draw from the ball, keyed
    by (seed, stream, image). What curves away from x has a maximum on either side and many more between: a random start
    alone ends at 0.5 to 0.65 of the best that many restarts find on small CNNs, the best of four at 0.9 to 0.95.
    """
    x, eps, norm = batch.images, batch.eps, batch.norm
    steepest = radius * eps * attacks.ascent_direction(context.input_gradient(batch), norm)
    random = attacks.start(x, batch.index, seed=batch.seed, eps=radius * eps, norm=norm, stream=stream)
    starts = [attacks.project(x, x + shift, eps, norm) for shift in (steepest, -steepest, random, -random)]
    values = torch.stack([value(start) * (1 + ADVANTAGE * place) for place, start in enumerate(starts)])
    moving = torch.stack(starts)[values.argmax(dim=0), torch.arange(len(x), device=x.device)]
    best = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    for _ in range(STEPS):
        with torch.enable_grad():
            point = moving.detach().requires_grad_(True)
            found = value(point)
            gradient = torch.autograd.grad(found.sum(), point)[0]
        best = torch.maximum(best, quality(found.detach(), moving))
        moving = attacks.project(x, moving + eps / 4 * attacks.ascent_direction(gradient, norm), eps, norm)
    return torch.maximum(best, quality(value(moving), moving))

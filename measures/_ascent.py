"""The maximum of a function of an image inside the ball around it, by ascent from several starts."""

from collections.abc import Callable

import torch
from torch import Tensor

from robustgap.measures._context import Context
from robustgap.measures.core import Batch
from robustgap.training import attacks

STEPS = 10
ADVANTAGE = 1e-3  # relative, of each start over the one before: in ties (mirror images) rounding must not choose


def maximum_in_ball(
    batch: Batch,
    context: Context,
    value: Callable[[Tensor], Tensor],
    *,
    stream: int,
    radius: float = 1.0,
    quality: Callable[[Tensor, Tensor], Tensor] = lambda values, point: values,
) -> Tensor:
    """Largest quality(value(x'), x') among the iterates x' of an ascent of value: (n,); 0 where none is above 0.

    value    images (n, c, h, w) -> (n,), differentiable, each entry a function of its own image
    quality  the number to maximise over iterates, from the value (n,) of an iterate and the iterate
    radius   of the starts, as a share of eps
    stream   of the random numbers of the starts

    10 steps of eps/4 in the direction of steepest ascent, projected onto the ball around x and onto [0, 1]^d, from the
    best of four starts: x +- the steepest direction of the cross-entropy, and x +- a uniform draw from the ball, keyed
    by (seed, stream, image). A function that curves away from x has a maximum on either side and more in between: on
    small CNNs one random start ends at 0.5 to 0.65 of the best of many restarts, the best of four at 0.9 to 0.95.
    """
    x, eps, norm = batch.images, batch.eps, batch.norm
    steepest = radius * eps * attacks.ascent_direction(context.input_gradient(batch), norm)
    random = attacks.start(x, batch.index, seed=batch.seed, eps=radius * eps, norm=norm, stream=stream)
    starts = [attacks.project(x, x + shift, eps, norm) for shift in (steepest, -steepest, random, -random)]
    ranking = torch.stack([value(start) * (1 + ADVANTAGE * k) for k, start in enumerate(starts)])
    iterate = torch.stack(starts)[ranking.argmax(dim=0), torch.arange(len(x), device=x.device)]
    best = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    for _ in range(STEPS):
        with torch.enable_grad():
            point = iterate.detach().requires_grad_(True)
            values = value(point)
            gradient = torch.autograd.grad(values.sum(), point)[0]
        best = torch.maximum(best, quality(values.detach(), iterate))
        iterate = attacks.project(x, iterate + eps / 4 * attacks.ascent_direction(gradient, norm), eps, norm)
    return torch.maximum(best, quality(value(iterate), iterate))

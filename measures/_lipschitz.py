"""The steepest change of a model's output around an image."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from robustgap.measures._ascent import highest
from robustgap.measures._context import Context
from robustgap.measures.core import Batch, Missing


def steepest(
    model: nn.Module,
    batch: Batch,
    context: Context,
    change: Callable[[Tensor, Tensor], Tensor],
    *,
    stream: int,
    radius: float,
) -> Tensor:
    """max over x' in the ball of change(f(x), f(x')) / ||x - x'||, by ascent of change((n, k), (n, k)) -> (n,): (n,).

    The largest quotient on the way is kept. Ascending the quotient itself would stall for Linf: the denominator's
    subgradient pulls the largest pixel back. stream, radius: of the starts (see `highest`). Raises Missing for eps = 0.
    """
    if batch.eps == 0:
        raise Missing("eps = 0: the ball is a point")
    fixed = context.logits(batch)
    return highest(
        batch,
        context,
        lambda moving: change(fixed, model(moving)),
        stream=stream,
        radius=radius,
        quality=lambda found, moving: found / distance(batch.images, moving, batch.norm),
    )


def distance(x: Tensor, moving: Tensor, norm: str) -> Tensor:
    """||x - x'|| of each image in the threat model's norm: (n, ...) -> (n,); not 0 where both agree."""
    difference = (x - moving).flatten(1)
    length = difference.abs().amax(dim=1) if norm == "Linf" else difference.norm(dim=1)
    return length.clamp_min(torch.finfo(x.dtype).tiny)

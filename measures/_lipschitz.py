"""The steepest change of a model's output around an image."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from robustgap.measures._ascent import maximum_in_ball
from robustgap.measures._context import Context
from robustgap.measures.core import Batch, Missing


def steepest_change(
    model: nn.Module,
    batch: Batch,
    context: Context,
    change: Callable[[Tensor, Tensor], Tensor],
    *,
    stream: int,
    radius: float,
) -> Tensor:
    """max over x' in the ball of change(f(x), f(x')) / ||x - x'||, by ascent of change((n, k), (n, k)) -> (n,): (n,).

    The largest quotient among the iterates is kept. Ascending the quotient itself would stall for Linf: the
    subgradient of the denominator pulls the largest pixel back. stream, radius: of the starts (see `maximum_in_ball`).
    Raises Missing for eps = 0.
    """
    if batch.eps == 0:
        raise Missing("eps = 0: the ball is a point")
    logits = context.logits(batch)
    return maximum_in_ball(
        batch,
        context,
        lambda point: change(logits, model(point)),
        stream=stream,
        radius=radius,
        quality=lambda values, point: values / image_distance(batch.images, point, batch.norm),
    )


def image_distance(x: Tensor, other: Tensor, norm: str) -> Tensor:
    """||x - x'|| of each image in the threat model's norm: (n, ...) -> (n,); tiny instead of 0 where both agree."""
    difference = (x - other).flatten(1)
    distance = difference.abs().amax(dim=1) if norm == "Linf" else difference.norm(dim=1)
    return distance.clamp_min(torch.finfo(x.dtype).tiny)

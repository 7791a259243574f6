"""The steepest change of a model's output around an image."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from measures._ascent import highest
from measures.core import Batch, Missing
from training import attacks


def steepest(
    model: nn.Module, batch: Batch, fixed: Tensor, change: Callable[[Tensor, Tensor], Tensor], stream: int
) -> Tensor:
    """max over x' in the ball of change(fixed, f(x')) / ||x - x'||, by ascent: (n,).

    fixed: f(x), (n, k). change((n, k), (n, k)) -> (n,) is what is ascended, from a uniform start in a tenth of the
    ball, keyed by (seed, stream, image), so that the iterates pass through all radii; the largest quotient on the way
    is kept. Ascending the quotient itself would stall for Linf: the denominator's subgradient pulls the largest pixel
    back.
    Raises Missing for eps = 0.
    """
    if batch.eps == 0:
        raise Missing("eps = 0: the ball is a point")
    x = batch.images
    start = attacks.start(x, batch.index, seed=batch.seed, eps=batch.eps / 10, norm=batch.norm, stream=stream)
    return highest(
        x,
        lambda moving: change(fixed, model(moving)),
        start,
        eps=batch.eps,
        norm=batch.norm,
        quality=lambda found, moving: found / distance(x, moving, batch.norm),
    )


def distance(x: Tensor, moving: Tensor, norm: str) -> Tensor:
    """||x - x'|| of each image in the threat model's norm: (n, ...) -> (n,); not 0 where both agree."""
    difference = (x - moving).flatten(1)
    length = difference.abs().amax(dim=1) if norm == "Linf" else difference.norm(dim=1)
    return length.clamp_min(torch.finfo(x.dtype).tiny)

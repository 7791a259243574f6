"""Rises of the loss when the weights move. No model is modified."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from robustgap.measures._context import Context
from robustgap.measures._weights import Weights, losses
from robustgap.measures.core import Batch


def mean_rise(model: nn.Module, moved: Weights, batches: Sequence[Batch], context: Context) -> float:
    """Rise of the mean cross-entropy over all images from the model to the weights `moved`, in nats."""
    rises = [losses(model, moved, batch.images, batch.labels) - context.losses(batch) for batch in batches]
    return float(torch.cat(rises).double().mean())


def rises_under_noise(before: Tensor, losses_at: Callable[[int, int], Tensor], pairs: int) -> Tensor:
    """Rise of each image's loss, from `before` (n,), averaged over a draw of noise and its opposite: (n, pairs).

    losses_at(pair, sign) -> (n,): the losses under draw number `pair`, multiplied by sign (1 or -1).
    """
    rises = []
    for pair in range(pairs):
        both = torch.zeros_like(before)
        for sign in (1, -1):
            both += losses_at(pair, sign) / 2
        rises.append(both - before)
    return torch.stack(rises, dim=1)

"""Segments from images to another class: where each ends, and how much of it is undecided between the two."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustgap.measures._context import Context
from robustgap.measures.core import Batch
from robustgap.training import attacks, keyed

STEPS = 20
POINTS = 128  # on a segment
ALPHA, BETA = 0.0, 0.75  # a point is undecided where the lead of the predicted class lies between these
STREAM = 101


@dataclass(frozen=True)
class Segments:
    """A segment for each image x_i of a batch.

    end      x_i' (n, c, h, w), where a targeted attack on x_i ends; logits: the logits at x_i' (n, k)
    predicted, target  the class predicted at x_i, and the class that x_i' was sent to: (n,)
    """

    end: Tensor
    logits: Tensor
    predicted: Tensor
    target: Tensor

    def unreached(self) -> Tensor:
        """1 where a segment ends before the target class, else 0; NaN where the logits are not finite: (n,)."""
        short = (self.logits.argmax(dim=1) != self.target).to(self.end)
        return torch.where(torch.isfinite(self.logits).all(dim=1), short, torch.nan)


def segments(model: nn.Module, batch: Batch, context: Context) -> Segments:
    """The segments that boundary_thickness describes; they are made once for all measures that use them."""
    logits = context.logits(batch)
    predicted, classes = logits.argmax(dim=1), logits.shape[1]
    shift = keyed.uniform(batch.seed, STREAM, batch.index, (1,), 1.0, float(classes))[:, 0].long()
    target = (predicted + shift) % classes
    x = batch.images
    end = context.of_batch("segment ends", batch, lambda: segment_ends(model, x, target, budget(x)))
    return Segments(end, context.of_batch("logits at segment ends", batch, lambda: model(end)), predicted, target)


def budget(images: Tensor) -> float:
    """L2 radius of the attack on images of d pixel values: 5 sqrt(d / 3072)."""
    return 5.0 * math.sqrt(images[0].numel() / 3072)


def segment_ends(model: nn.Module, images: Tensor, target: Tensor, radius: float) -> Tensor:
    """Targeted L2 PGD towards the classes `target` (n,): 20 steps of a 25th of the radius, without a random start."""
    step = radius / 25
    end: Tensor = attacks.pgd(
        model, images, target, eps=radius, noise=None, norm="L2", steps=STEPS, step=step, targeted=True
    )
    return end


def undecided_length(
    model: nn.Module, x: Tensor, end: Tensor, predicted: Tensor, target: Tensor, known: Mapping[float, Tensor]
) -> Tensor:
    """L2 length of the part of each segment from x to `end` on which ALPHA < p_predicted - p_target < BETA: (n,).

    Estimated at POINTS points t x + (1 - t) end. known: logits (n, k) that are known already, by t.
    """
    inside = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    for t in torch.linspace(0, 1, POINTS, dtype=torch.float64).tolist():
        p = (known[t] if t in known else model(t * x + (1 - t) * end)).softmax(dim=1)
        lead = (p.gather(1, predicted[:, None]) - p.gather(1, target[:, None]))[:, 0]
        inside += (lead > ALPHA) & (lead < BETA)
    length: Tensor = (x - end).flatten(1).norm(dim=1)
    return length * inside / POINTS

"""Segments from images towards another class: where each ends."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustgap.measures._context import Context
from robustgap.measures.core import Batch
from robustgap.training import attacks, keyed

STEPS = 20
STREAM = 101


@dataclass(frozen=True)
class Segments:
    """end: x_i' (n, c, h, w), where the attack on each image x_i ends, and logits: those of x_i' (n, k); own: the class
    predicted at x_i, and other: the one that x_i' was sent to, (n,)."""

    end: Tensor
    logits: Tensor
    own: Tensor
    other: Tensor

    def unreached(self) -> Tensor:
        """1 where the segment ends short of the other class, else 0; NaN where the logits are not finite: (n,)."""
        short = (self.logits.argmax(dim=1) != self.other).to(self.end)
        return torch.where(torch.isfinite(self.logits).all(dim=1), short, torch.nan)


def segments(model: nn.Module, batch: Batch, context: Context) -> Segments:
    """The segments of boundary_thickness, which explains them; the attack is made once for all who ask."""
    logits = context.logits(batch)
    own, classes = logits.argmax(dim=1), logits.shape[1]
    shift = keyed.uniform(batch.seed, STREAM, batch.index, (1,), 1.0, float(classes))[:, 0].long()
    other = (own + shift) % classes
    budget = 5.0 * math.sqrt(batch.images[0].numel() / 3072)

    def attack() -> Tensor:
        given = {"eps": budget, "noise": None, "norm": "L2", "steps": STEPS, "step": budget / 25, "targeted": True}
        return attacks.pgd(model, batch.images, other, **given)

    end = context.of_batch("segment ends", batch, attack)
    return Segments(end, context.of_batch("logits at segment ends", batch, lambda: model(end)), own, other)

"""Adaptive sharpness: the largest loss in a box around the weights with sides proportional to them."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from robustgap.measures._context import Context
from robustgap.measures._weight_ascent import ascend, with_larger_mean
from robustgap.measures._weights import detached_parameters
from robustgap.measures.core import Batch
from robustgap.training.attacks import Loss, cross_entropy

RHO = 0.002  # largest relative change of a weight
STEPS = 6  # 40 raise the value by at most 0.03 % on small networks: the loss is nearly linear in so small a box


def worst_rise(model: nn.Module, batches: Sequence[Batch], context: Context, loss: Loss) -> Tensor:
    """Rise of each image's loss (n,) at the worst w + v with |v_i| <= RHO |w_i| for every parameter.

    STEPS steps of sign ascent on the mean over all images, from v = 0, with step lengths that fall linearly from twice
    the box to 0. The iterate with the largest mean is kept: a lower bound of the maximum, and at least 0.
    """
    weights = detached_parameters(model)
    sides = {name: RHO * weight.abs() for name, weight in weights.items()}

    def move(step: int, moved: dict[str, Tensor], gradient: Mapping[str, Tensor]) -> dict[str, Tensor]:
        length = 2 * (1 - step / STEPS)
        return {
            name: weight
            + torch.clamp(
                moved[name] - weight + length * sides[name] * gradient[name].sign(), -sides[name], sides[name]
            )
            for name, weight in weights.items()
        }

    images, labels = [batch.images for batch in batches], [batch.labels for batch in batches]
    before = torch.cat([loss(context.logits(batch), batch.labels) for batch in batches])
    shared = context if loss is cross_entropy else None
    after = ascend(model, weights, images, labels, loss, move, None, STEPS, shared)
    return with_larger_mean(before, after) - before


def normalized_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of logits centred and divided by their L2 norm: (n, k), (n,) -> (n,)."""
    centred = logits - logits.mean(dim=1, keepdim=True)
    norm = centred.norm(dim=1, keepdim=True).clamp_min(1e-10)
    return torch.nn.functional.cross_entropy(centred / norm, labels, reduction="none")

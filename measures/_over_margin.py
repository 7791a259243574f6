"""Norms divided by the squared margin: the margin and what the sampling of images does to it."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from robustgap.measures._context import Context
from robustgap.measures._margin import margin, of_margin
from robustgap.measures.core import Batch, Missing


def margins(context: Context, batches: Sequence[Batch]) -> Tensor:
    """The logit margin of every image of the batches, (n,) in float64. Raises Missing where one is not finite."""
    found = torch.cat([margin(context.logits(batch), batch.labels) for batch in batches]).double()
    if bad := int((~torch.isfinite(found)).sum()):
        raise Missing(f"the margin is not finite for {bad} of {len(found)} images")
    return found


def log_square_margin(context: Context, batches: Sequence[Batch]) -> tuple[float, float]:
    """log gamma^2 of the 10th percentile gamma of the logit margin on the images of the batches, and its standard
    error (see of_margin). Raises Missing when gamma <= 0."""
    return of_margin(margins(context, batches), lambda gamma: 2 * math.log(gamma))

"""Norms divided by the squared margin: the margin, and the standard error from the sampling of its images."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from robustgap.measures._context import Context
from robustgap.measures._margin import margin, of_margin_p10
from robustgap.measures._norms import log_sum, logarithms
from robustgap.measures.core import Batch, Missing


def margins(context: Context, batches: Sequence[Batch]) -> Tensor:
    """The logit margin of every image of the batches, (n,) in float64. Raises Missing where one is not finite."""
    values = torch.cat([margin(context.logits(batch), batch.labels) for batch in batches]).double()
    if bad := int((~torch.isfinite(values)).sum()):
        raise Missing(f"the margin is not finite for {bad} of {len(values)} images")
    return values


def log_square_margin(context: Context, batches: Sequence[Batch]) -> tuple[float, float]:
    """log gamma^2 of the 10th percentile gamma of the logit margin, and its standard error. Raises Missing."""
    return of_margin_p10(margins(context, batches), lambda gamma: 2 * math.log(gamma))


def log_prod_over_margin(squares: Sequence[float], context: Context, batches: Sequence[Batch]) -> tuple[float, float]:
    """log(prod_l s_l / gamma^2) of the layers' squared norms s_l, and its standard error. Raises Missing."""
    logs = logarithms(squares)
    log_margin, se = log_square_margin(context, batches)
    return sum(logs) - log_margin, se


def log_sum_over_margin(squares: Sequence[float], context: Context, batches: Sequence[Batch]) -> tuple[float, float]:
    """log(d (prod_l s_l / gamma^2)^(1/d)) of the d squared norms s_l, and its standard error. Raises Missing."""
    logs = logarithms(squares)
    log_margin, se = log_square_margin(context, batches)
    return log_sum(logs, log_margin), se / len(logs)

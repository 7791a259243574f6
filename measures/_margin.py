"""Margins of a classifier, and their lower tail with its standard error."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from robustgap.measures.core import Missing

Z = 1.96


def margin(scores: Tensor, labels: Tensor) -> Tensor:
    """Score of the label minus the largest other score: (n, classes), (n,) -> (n,); negative where misclassified."""
    of_label = scores.gather(1, labels[:, None])[:, 0]
    others = scores.scatter(1, labels[:, None], -math.inf)
    return of_label - others.amax(dim=1)


def quantile_interval(values: Tensor, q: float) -> tuple[float, float, float]:
    """The q-quantile of (n,) numbers (linear interpolation of order statistics) and the ends of its 95 % interval.

    The ends are order statistics and assume no distribution: the number of values below the true quantile is binomial,
    so the quantiles at q +- z sqrt(q (1 - q) / n) bound it with 95 % confidence for z = 1.96. A monotone function of
    the ends bounds that function of the quantile.
    """
    spread = Z * math.sqrt(q * (1 - q) / len(values))
    levels = torch.tensor([q, q - spread, q + spread], dtype=values.dtype, device=values.device).clamp(0.0, 1.0)
    centre, low, high = torch.quantile(values, levels).tolist()
    return centre, low, high


def quantile(values: Tensor, q: float) -> tuple[float, float]:
    """The q-quantile of (n,) numbers and its standard error: half the length of `quantile_interval`, divided by its z.

    (With z = 1 the error itself is so uncertain that value +- 1.96 errors covers the truth in only 88 % of samples of
    100.)
    """
    centre, low, high = quantile_interval(values, q)
    return centre, (high - low) / 2 / Z


def of_margin_p10(margins: Tensor, function: Callable[[float], float]) -> tuple[float, float]:
    """A monotone function of the 10th percentile gamma > 0 of (n,) margins, and its standard error.

    The error is the larger change of the function from gamma to the two ends of gamma's `quantile_interval`, divided by
    its z. (The delta method takes the slope at gamma, which near 0 is far from the slope at the lower end.) NaN where
    the lower end is not above 0: the images are too few to tell gamma from 0. Raises Missing where gamma is not above
    0.
    """
    gamma, low, high = quantile_interval(margins, 0.1)
    if gamma <= 0:
        raise Missing("the 10th percentile of the margin (margin_p10) is not above 0, where 1/gamma^2 has no meaning")
    value = function(gamma)
    return value, max(abs(function(end) - value) for end in (low, high)) / Z if low > 0 else math.nan

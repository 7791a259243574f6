import math

import torch
from torch import Tensor, nn

from robustgap.measures._context import Context
from robustgap.measures.core import Batch, measure

BINS = 15


def expected_calibration_error(pairs: Tensor) -> tuple[float, float]:
    """ECE of (n, 2) pairs (confidence, correct), and its standard error.

    With S_b the sum of correct - confidence in bin b, ECE = sum_b |S_b| / n = (1/n) sum_i z_i, where
    z_i = sign(S_b(i)) (correct_i - confidence_i). Where the signs are certain, its variance is s(z)^2 / n. Where they
    are not, in bins that are nearly calibrated, ECE is too high (`excess`); the error is sqrt(s(z)^2 / n + excess^2).
    """
    confidence, correct = pairs.unbind(dim=1)
    bins = (confidence * BINS).ceil().long().clamp(1, BINS) - 1  # bin b holds (b / 15, (b + 1) / 15]

    def sums(values: Tensor) -> Tensor:
        return torch.zeros(BINS, dtype=pairs.dtype, device=pairs.device).index_add_(0, bins, values)

    surplus = sums(correct - confidence)
    z = surplus.sign()[bins] * (correct - confidence)
    if len(z) < 2:
        return float(z.mean()), math.nan
    count = sums(torch.ones_like(z))
    filled, divisor = count > 0, count.clamp_min(1)
    gap, mean_confidence = surplus / divisor, sums(confidence) / divisor
    variance = sums((correct - confidence - gap[bins]).square()) / (divisor - 1)
    # a single image gets the variance of a calibrated one of its confidence (which rounding may raise above 1)
    variance = torch.where(count > 1, variance, (mean_confidence * (1 - mean_confidence)).clamp_min(0))
    bias = float((count[filled] * excess(gap[filled].abs(), (variance / divisor)[filled].sqrt())).sum()) / len(z)
    return float(z.mean()), math.hypot(float(z.std()) / math.sqrt(len(z)), bias)


def excess(gap: Tensor, error: Tensor) -> Tensor:
    """By how much |mean| exceeds |true mean| on average, given gap = |mean| and its standard error: (b,), (b,) -> (b,).

    The absolute value of a normal variable of mean g and deviation s has the mean s sqrt(2/pi) exp(-t^2/2)
    + g erf(t / sqrt(2)), t = g / s; g^2 is estimated by gap^2 - s^2, or 0 where that is negative.
    """
    true = (gap.square() - error.square()).clamp_min(0).sqrt()
    ratio = true / error.clamp_min(torch.finfo(error.dtype).tiny)
    folded = error * math.sqrt(2 / math.pi) * (-ratio.square() / 2).exp() + true * (ratio / math.sqrt(2)).erf()
    return folded - true


@measure(
    family="output",
    needs=("batch", "context"),
    expects={"clean": None, "adversarial": None},
    paper="Guo et al., ICML 2017",
    formula="sum_b (n_b / n) | accuracy_b - mean confidence_b |,  15 equal bins of confidence",
    invariances=("layer rescaling", "BatchNorm folding"),
    reduction=expected_calibration_error,
)
def calibration_error(model: nn.Module, batch: Batch, context: Context) -> Tensor:
    """Expected calibration error: how far confidence is from accuracy, in 15 bins of confidence.

        sum_b (n_b / n) | acc_b - conf_b |,  bin b: the images with max_k p_i[k] in (b / 15, (b + 1) / 15]
        p_i = softmax(f(x_i));  no unit, in [0, 1];  images (n, c, h, w) -> (n, 2): confidence and whether it is right

    acc_b is the share of images of bin b whose most probable class is the label, conf_b their mean confidence. One
    number for the whole set; empty bins do not count. With few images the value is too high for a nearly calibrated
    model (by the order of sqrt(bins / n)), and is left as published: the standard error includes an estimate of that
    excess besides image sampling, so it is not a spread over samples. Compare models on the same number of images.
    Clean: x_i the image. Adversarial: x_i its PGD-10 example.
    Paper: Guo et al., On Calibration of Modern Neural Networks, ICML 2017 (bins after Naeini et al., AAAI 2015), about
    test images. Claim about the gap: none.
    """
    confidence, predicted = context.logits(batch).softmax(dim=1).max(dim=1)
    return torch.stack([confidence, (predicted == batch.labels).to(confidence)], dim=1)

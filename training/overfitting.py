"""Catastrophic overfitting: a network trained on one-step examples keeps its accuracy under one-step attacks but loses
it under multi-step attacks, within an epoch or two (Wong, Rice, Kolter, ICLR 2020; Andriushchenko and Flammarion,
NeurIPS 2020)."""

import math

from robustgap.training.settings import TableRow

FLAG = "catastrophic_overfitting"


def catastrophic(log: list[TableRow], images: int, classes: int) -> bool:
    """Whether the last line of a log shows it: with p PGD-10 accuracy and f FGSM accuracy on `images` validation
    images, and * the earlier epoch of the highest p (the first of them),

        p < p* / 2,    p* - p > 3 se(p*, p),    f* - f <= 3 se(f*, f),
        p* > q + 3 sqrt(q (1 - q) / images) with q = 1 / classes,

    where se(a, b) = sqrt((a (1 - a) + b (1 - b)) / images): PGD accuracy was above chance, has fallen to less than
    half, by more than image sampling explains, and FGSM accuracy has not. The thresholds are our own. (A network that
    predicts a single class has chance accuracy under any attack.)
    """
    # a run that an earlier version began has lines without FGSM
    earlier = [row for row in log[:-1] if "val_fgsm" in row]
    if not earlier:
        return False
    peak, now = max(earlier, key=lambda row: row["val_robust"]), log[-1]
    high, low = peak["val_robust"], now["val_robust"]
    below_half = low < high / 2 and fallen(high, low, images)
    return above_chance(high, images, classes) and below_half and not fallen(peak["val_fgsm"], now["val_fgsm"], images)


def above_chance(accuracy: float, images: int, classes: int) -> bool:
    """Whether an accuracy is above 1 / classes by more than 3 standard errors."""
    chance = 1 / classes
    return accuracy - chance > 3 * math.sqrt(chance * (1 - chance) / images)


def fallen(before: float, after: float, images: int) -> bool:
    """Whether an accuracy fell by more than 3 standard errors of the difference."""
    return before - after > 3 * math.sqrt((before * (1 - before) + after * (1 - after)) / images)

"""Learning rates, found by name in SCHEDULES.

Contract: `f(t, epochs) -> factor` of the setting `lr`; t in [0, epochs] counts epochs, parts of them too.
"""

import math

from robustgap.training.registry import Registry
from robustgap.training.settings import Settings

SCHEDULES = Registry("schedule")
DROPS = (1 / 2, 3 / 4)  # of the epochs; the learning rate falls to a tenth at each
PEAK = 2 / 5  # of the epochs; where one-cycle peaks


@SCHEDULES.register()
def piecewise(t: float, epochs: int) -> float:
    """0.1^(number of drops so far), drops at 1/2 and 3/4 of the epochs, at the beginning of an epoch."""
    return 0.1 ** sum(math.floor(t) >= drop * epochs for drop in DROPS)


@SCHEDULES.register()
def cosine(t: float, epochs: int) -> float:
    """(1 + cos(pi t / epochs)) / 2 (Loshchilov and Hutter, ICLR 2017, without restarts)."""
    return (1 + math.cos(math.pi * t / epochs)) / 2


@SCHEDULES.register()
def onecycle(t: float, epochs: int) -> float:
    """Linear from 0 to 1 at 2/5 of the epochs, then linear to 0 (Smith and Topin, 2018; with this peak, for adversarial
    training, Rice et al., ICML 2020)."""
    return min(t / (PEAK * epochs), (epochs - t) / ((1 - PEAK) * epochs))


def learning_rate(settings: Settings, epoch: int, share: float = 0.0) -> float:
    """lr times the factor of the schedule after the fraction `share` of an epoch (from 0)."""
    epochs = int(settings["epochs"])
    factor: float = SCHEDULES[settings["schedule"]](epoch + share, epochs)
    return float(settings["lr"]) * factor


def first_drop(settings: Settings) -> int:
    """The first epoch (from 0) that may be kept as `best`: at half of the epochs, where `piecewise` drops
    the learning rate for the first time. The other schedules have no drop and use the same half."""
    return math.ceil(DROPS[0] * int(settings["epochs"]))

"""The learning rate of each epoch."""

import math

DROPS = (1 / 2, 3 / 4)  # of the epochs; the learning rate falls to a tenth at each


def learning_rate(settings: dict, epoch: int) -> float:
    """lr x 0.1^(number of drops behind), drops at 1/2 and 3/4 of the epochs."""
    return float(settings["lr"]) * 0.1 ** sum(epoch >= drop * settings["epochs"] for drop in DROPS)


def first_drop(settings: dict) -> int:
    """The first epoch (from 0) trained with the dropped learning rate; `best` is looked for from here on."""
    return math.ceil(DROPS[0] * settings["epochs"])

"""Attacks under which models are judged, named as in `outcomes.attacks` of a study file; facts about each are in
training/facts.py.

Contract: f(model, x, y, index, eps, norm, **extra) -> x_adv, in the ball of radius eps around x and in [0, 1]; eps = 0
gives x. An attack with parts returns an iterator of `Part` instead: what it has found after each part, in order, and
last what it found at all, with the value ''.

x       (n, c, h, w) in [0, 1]; anything outside is a ValueError. y and index (n,) int64: labels, image ids.
model   in eval mode and without gradients of its weights.
extra   what the facts of the attack declare, as text: `target`, options by their names; and `state`, a folder in which
        an attack that is `stateful` saves what it has finished, or None.

Random numbers are keyed by (SEED, stream, image), so that a result depends neither on batch size nor on the order of
images. The exception are attacks whose facts say `whole`: a library draws them, once for every batch (an option of
theirs) of the images it is given, so they are given all images of a split, in the order of the frozen images.
"""

from typing import NamedTuple

from torch import Tensor

from robustgap.training.facts import ATTACK_FACTS
from robustgap.training.registry import Plugins

OUTCOME_ATTACKS = Plugins("outcome attack", ATTACK_FACTS)
SEED = 0  # of all random numbers: the same for all models, whatever their training seed


class Part(NamedTuple):
    """value: a class or the name of a component, '' for the attack itself; x_adv (n, c, h, w); seconds: what the part
    took, sessions that were cut short included; None: as long as its caller waited."""

    value: str
    x_adv: Tensor
    seconds: float | None = None


OUTCOME_ATTACKS.load()

"""Outcome attacks that climb the cross-entropy of the label: none, one step, PGD, PGD with restarts."""

import torch
from torch import Tensor, nn

from robustgap.training import attacks
from robustgap.training.facts import ATTACK_FACTS
from robustgap.training.outcome_attacks import OUTCOME_ATTACKS, SEED

RESTARTS, RESTART_STEPS = 10, 50
RESTART_STREAM = 300  # and onwards: one stream of keyed numbers per restart


@OUTCOME_ATTACKS.register("clean")
def clean(model: nn.Module, x: Tensor, y: Tensor, index: Tensor, eps: float, norm: str) -> Tensor:
    """No attack."""
    x_adv: Tensor = attacks.clean(model, x, y, eps=eps)
    return x_adv


@OUTCOME_ATTACKS.register("fgsm")
def fgsm(model: nn.Module, x: Tensor, y: Tensor, index: Tensor, eps: float, norm: str) -> Tensor:
    """One step of size eps from the image itself (Goodfellow et al., ICLR 2015)."""
    x_adv: Tensor = attacks.fgsm(model, x, y, eps=eps, norm=norm)
    return x_adv


@OUTCOME_ATTACKS.register("pgd10")
def pgd10(model: nn.Module, x: Tensor, y: Tensor, index: Tensor, eps: float, norm: str) -> Tensor:
    """10 steps of eps/4 from a uniform start in the ball (Madry et al., ICLR 2018)."""
    noise = attacks.start(x, index, seed=SEED, eps=eps, norm=norm, stream=attacks.EVALUATION_START)
    x_adv: Tensor = attacks.pgd(model, x, y, eps=eps, noise=noise, norm=norm, steps=ATTACK_FACTS["pgd10"].steps)
    return x_adv


@OUTCOME_ATTACKS.register("pgd50x10")
def pgd50x10(model: nn.Module, x: Tensor, y: Tensor, index: Tensor, eps: float, norm: str) -> Tensor:
    """50 steps of eps/4 from each of 10 uniform starts: the first end that is misclassified, else the end of highest
    cross-entropy. An image that is misclassified, at first or after a restart, is attacked no further."""
    attacks.check_range(x)
    best, highest = x.clone(), torch.full_like(x[:, 0, 0, 0], -torch.inf)
    left = standing(model, x, y).nonzero()[:, 0] if eps else torch.empty(0, dtype=torch.long)
    for restart in range(RESTARTS):
        if not len(left):
            break
        images, labels = x[left], y[left]
        noise = attacks.start(images, index[left], seed=SEED, eps=eps, norm=norm, stream=RESTART_STREAM + restart)
        ends = attacks.pgd(model, images, labels, eps=eps, noise=noise, norm=norm, steps=RESTART_STEPS)
        robust = standing(model, ends, labels)
        with torch.no_grad():
            losses = attacks.cross_entropy(model(ends), labels)
        better = ~robust | (losses > highest[left])
        best[left[better]], highest[left[better]] = ends[better], losses[better]
        left = left[robust]
    return best


def standing(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Whether images (n, c, h, w) are classified as y, with finite logits: (n,) bool."""
    with torch.no_grad():
        logits: Tensor = model(x)
    return (logits.argmax(1) == y) & torch.isfinite(logits).all(1)

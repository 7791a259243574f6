"""PGD towards a class: whether a model can be made to see what an attacker wants it to see."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from robustgap.training import attacks, keyed
from robustgap.training.facts import ATTACK_FACTS
from robustgap.training.outcome_attacks import OUTCOME_ATTACKS, SEED, Part
from robustgap.training.outcome_attacks.gradient import standing

START_STREAM, CLASS_STREAM = 330, 331


@OUTCOME_ATTACKS.register("targeted_pgd")
def targeted_pgd(
    model: nn.Module, x: Tensor, y: Tensor, index: Tensor, eps: float, norm: str, *, target: str
) -> Tensor | Iterator[Part]:
    """10 steps of eps/4 down the cross-entropy of a class t, from a uniform start in the ball (Kurakin et al., ICLR
    2017; Madry et al., ICLR 2018). An image whose label is t is left as it is.

    target: the number of t; `drawn`, uniformly from the other classes, for each image; `each`: all classes in turn, a
    part each, and last for each image its first end that is misclassified, else that of highest cross-entropy of the
    label. All start at the same point. Raises ValueError for a class that the model does not have.
    """
    attacks.check_range(x)
    with torch.no_grad():
        classes = model(x[:1]).shape[1]
    if target == "each":
        return towards_each(model, x, y, index, eps, norm, classes)
    if target == "drawn":
        others = (keyed.uniform(SEED, CLASS_STREAM, index, ()) * (classes - 1)).long()
        return towards(model, x, y, index, eps, norm, others + (others >= y))
    if int(target) >= classes:
        raise ValueError(f"target: found {target}, wanted a class from 0 to {classes - 1}")
    return towards(model, x, y, index, eps, norm, torch.full_like(y, int(target)))


def towards(model: nn.Module, x: Tensor, y: Tensor, index: Tensor, eps: float, norm: str, wanted: Tensor) -> Tensor:
    """Images (n, c, h, w) attacked towards the classes `wanted` (n,); as they are where that is their label."""
    noise = attacks.start(x, index, seed=SEED, eps=eps, norm=norm, stream=START_STREAM)
    options = {"norm": norm, "steps": ATTACK_FACTS["targeted_pgd"].steps, "targeted": True}
    ends = attacks.pgd(model, x, wanted, eps=eps, noise=noise, **options)
    return torch.where((wanted == y).reshape(-1, *[1] * (x.dim() - 1)), x, ends)


def towards_each(
    model: nn.Module, x: Tensor, y: Tensor, index: Tensor, eps: float, norm: str, classes: int
) -> Iterator[Part]:
    """A part for each class, and the worst of them."""
    worst, highest = x.clone(), torch.full_like(x[:, 0, 0, 0], -torch.inf)
    for wanted in range(classes):
        ends = towards(model, x, y, index, eps, norm, torch.full_like(y, wanted))
        with torch.no_grad():
            losses = attacks.cross_entropy(model(ends), y)
        losses = losses.masked_fill(~standing(model, ends, y), torch.inf)
        better = losses > highest
        worst[better], highest[better] = ends[better], losses[better]
        yield Part(str(wanted), ends)
    yield Part("", worst)

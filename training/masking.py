"""Gradient masking: signs that a gradient attack tells nothing of a model's robustness (Athalye et al., ICML 2018)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustgap.training import attacks
from robustgap.training.modes import frozen, full_precision

GRADIENT_MASKING = "gradient_masking"  # the flag
ENOUGH = 256  # images to look at
ZERO, IDLE = 0.1, 0.5  # flagged from this share of images on
ROUNDING = 1e-3  # by which sums of probabilities, and logits relative to their largest, may differ


@dataclass(frozen=True)
class Masking:
    """Shares of the images that were looked at, each in [0, 1].

    zero    the gradient of the cross-entropy by the image is exactly 0 (rounding, saturated logits)
    sums    the outputs are probabilities: none negative, with sum 1 (a softmax is taken twice)
    idle    the attack ends at no higher loss than it started from
    random  the outputs of two calls differ
    """

    zero: float
    sums: float
    idle: float
    random: float

    @property
    def evidence(self) -> str:
        """'' for an honest model; else what speaks against its gradients, for a table or a note."""
        signs = [
            (self.zero >= ZERO, f"the input gradient of {self.zero:.0%} of images is 0"),
            (self.sums == 1, "outputs are probabilities, not logits"),
            (self.idle >= IDLE, f"PGD raises the loss of only {1 - self.idle:.0%} of images"),
            (self.random > 0, f"the output for {self.random:.0%} of images changes from call to call"),
        ]
        return "; ".join(text for holds, text in signs if holds)


def gradient_masking(
    model: nn.Module, x: Tensor, y: Tensor, index: Tensor, adversarial: Tensor | None, *, eps: float, norm: str,
    seed: int = 0, batch: int = 256,
) -> Masking:  # fmt: skip
    """What the first ENOUGH images say; without examples, or with eps = 0, idle is 0;
    of a model whose output is the same for all images, everything is.

    x (n, c, h, w) in [0, 1], y and index (n,); adversarial: their PGD examples, started at the point of the ball that
    `attacks.start` draws for (seed, image). Costs 8 forward passes of each image. The model must be in eval mode.
    """
    shares, outputs = [], []
    with frozen(model), full_precision(), torch.no_grad():
        for rows in torch.split(torch.arange(min(len(x), ENOUGH)), batch):
            attacked = None if adversarial is None or eps == 0 else adversarial[rows]
            noise = attacks.start(x[rows], index[rows], seed=seed, eps=eps, norm=norm, stream=attacks.EVALUATION_START)
            start = attacks.project(x[rows], x[rows] + noise, eps, norm)
            shares.append(_signs(model, x[rows], y[rows], start, attacked))
            outputs.append(model(x[rows]))
    found = torch.cat(shares).double().mean(dim=0).tolist()
    logits = torch.cat(outputs)
    if torch.equal(logits, logits[:1].expand_as(logits)):  # a constant hides nothing: it has no gradient
        found = [0.0] * len(found)
    return Masking(*found)


def _signs(model: nn.Module, x: Tensor, y: Tensor, start: Tensor, adversarial: Tensor | None) -> Tensor:
    """(n, 4) bool: the fields of Masking for each image."""
    logits, again = model(x), model(x)
    room = ROUNDING * logits.abs().amax(dim=1, keepdim=True)
    random = ((logits - again).abs() > room).any(dim=1)
    sums = (logits >= 0).all(dim=1) & ((logits.sum(dim=1) - 1).abs() <= ROUNDING)
    zero = idle = torch.zeros_like(random)
    try:
        zero = (attacks.input_gradient(model, x, y).flatten(1) == 0).all(dim=1)
    except RuntimeError as error:  # else a fault of the model, which says nothing about its gradients
        zero = torch.full_like(random, "does not require grad" in str(error))  # the input is detached on the way
    if adversarial is not None:
        idle = attacks.cross_entropy(model(adversarial), y) <= attacks.cross_entropy(model(start), y)
    return torch.stack([zero, sums, idle, random], dim=1)

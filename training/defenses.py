"""Defenses: how a batch is attacked during training, and the loss on it; found by name in DEFENSES.

Contract: `DEFENSES[name](settings) -> Defense(adversary, loss)` with
    adversary(model, x, y, attack) -> x_adv     called in eval mode; attack is an `InnerAttack`
    loss(model, x, x_adv, y) -> (n,)            called in train mode
and, for a defense that carries perturbations from step to step (passed as `attack.carried`),
    carry(gradient, attack) -> (n, c, h, w)     the next ones, from the gradient of the loss at x_adv
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustgap.training import keyed
from robustgap.training.attacks import START, Loss, ascent_direction, climb, cross_entropy
from robustgap.training.attacks import start as ball
from robustgap.training.facts import DEFENSE_FACTS
from robustgap.training.registry import Plugins
from robustgap.training.settings import Settings

DEFENSES = Plugins("defense", DEFENSE_FACTS)
GAUSSIAN_START = 0.001  # of TRADES and MART, in the units of x


@dataclass(frozen=True)
class InnerAttack:
    """PGD on one training batch; starts are keyed by (seed, stream, image index). One step is a step of size eps.

    carried: (n, c, h, w), perturbations that an earlier step left, for the defenses that `carry` some.
    """

    eps: float
    norm: str
    steps: int
    seed: int
    stream: int
    index: Tensor
    carried: Tensor | None = None

    def uniform(self, x: Tensor, stream: int) -> Tensor:
        """A draw from the ball around 0 for each image, of the shape of x; streams are independent."""
        return ball(x, self.index, seed=self.seed, eps=self.eps, norm=self.norm, stream=self.stream + stream)

    def __call__(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        *,
        gaussian: bool = False,
        loss: Loss = cross_entropy,
        step: float | None = None,
    ) -> Tensor:
        """x_adv from a uniform start in the ball, or from x + 0.001 N(0, 1) with gaussian=True. step: as of `pgd`."""
        if gaussian:
            draw = keyed.normal(self.seed, self.stream + START, self.index, x.shape[1:])
            noise = (GAUSSIAN_START * draw).to(x)
        else:
            noise = self.uniform(x, START)
        return climb(model, x, y, eps=self.eps, noise=noise, loss=loss, norm=self.norm, steps=self.steps, step=step)


Adversary = Callable[[nn.Module, Tensor, Tensor, InnerAttack], Tensor]


@dataclass(frozen=True)
class Defense:
    adversary: Adversary
    loss: Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]
    carry: Callable[[Tensor, InnerAttack], Tensor] | None = None


def kl_divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q) = sum_k p_k (log p_k - log q_k) of each row: two (n, k) of log-probabilities -> (n,)."""
    return (log_p.exp() * (log_p - log_q)).sum(dim=1)


def label_loss(settings: Settings) -> Loss:
    """The loss that a defense minimises as its cross-entropy: with s = label_smoothing (Szegedy et al., CVPR
    2016)

        (1 - s) CE(f(x), y) + s/K sum_k CE(f(x), k),    logits (n, K), labels (n,) -> (n,).
    """
    smoothing = float(settings["label_smoothing"])
    if smoothing == 0:
        return cross_entropy

    def smoothed(logits: Tensor, y: Tensor) -> Tensor:
        uniform = -F.log_softmax(logits.double(), dim=1).mean(dim=1).to(logits)
        return (1 - smoothing) * cross_entropy(logits, y) + smoothing * uniform

    return smoothed


@DEFENSES.register("Standard")
def standard(settings: Settings) -> Defense:
    """Cross-entropy on clean images."""
    minimised = label_loss(settings)
    return Defense(lambda model, x, y, attack: x, lambda model, x, x_adv, y: minimised(model(x_adv), y))


@DEFENSES.register("AT")
def adversarial_training(settings: Settings) -> Defense:
    """Cross-entropy on PGD examples that start uniformly in the ball (Madry et al., ICLR 2018)."""
    minimised = label_loss(settings)
    return Defense(
        lambda model, x, y, attack: attack(model, x, y), lambda model, x, x_adv, y: minimised(model(x_adv), y)
    )


@DEFENSES.register("FGSM-RS")
def fgsm_random_start(settings: Settings) -> Defense:
    """Cross-entropy on examples of one step of alpha eps (alpha = fgsm_alpha) from a uniform start in the ball,
    projected back on it: fast adversarial training (Wong, Rice, Kolter, ICLR 2020)."""
    alpha, minimised = float(settings["fgsm_alpha"]), label_loss(settings)

    def adversary(model: nn.Module, x: Tensor, y: Tensor, attack: InnerAttack) -> Tensor:
        return replace(attack, steps=1)(model, x, y, step=alpha * attack.eps)

    return Defense(adversary, lambda model, x, x_adv, y: minimised(model(x_adv), y))


@DEFENSES.register("FreeAT")
def free_adversarial_training(settings: Settings) -> Defense:
    """Free adversarial training (Shafahi et al., NeurIPS 2019): one backward pass serves weights and perturbation,

        w <- w - lr grad_w CE(f(x + delta), y),    delta <- P(delta + eps direction(grad_x CE(f(x + delta), y))),

    P the projection on the ball; x + delta is clipped to [0, 1]. Each batch is trained on free_replays times, and delta
    carries over from replay to replay and from batch to batch, by position in the batch. The gradient is that of the
    training pass, so it is the only attack that sees BatchNorm in train mode, and labels are not smoothed: the attack
    would climb a loss that has its minimum elsewhere. It is taken at the clipped image, so that delta may come back
    from outside the box; the authors' clipping is part of the graph and gives 0 there.
    """

    def adversary(model: nn.Module, x: Tensor, y: Tensor, attack: InnerAttack) -> Tensor:
        assert attack.carried is not None
        return (x + attack.carried).clamp(0.0, 1.0)

    def carry(gradient: Tensor, attack: InnerAttack) -> Tensor:
        assert attack.carried is not None
        moved = attack.carried + attack.eps * ascent_direction(gradient, attack.norm)
        return moved.clamp(-attack.eps, attack.eps) if attack.norm == "Linf" else moved.renorm(2, 0, attack.eps)

    return Defense(adversary, lambda model, x, x_adv, y: cross_entropy(model(x_adv), y), carry)


@DEFENSES.register("TRADES")
def trades(settings: Settings) -> Defense:
    """CE(f(x), y) + beta KL(f(x) || f(x_adv)), x_adv maximising that KL (Zhang et al., ICML 2019).

    Gradients flow through both arguments of the KL, as in the authors' code. Clean and adversarial images are
    separate batches for BatchNorm. The authors' code passes the clean ones again for the KL (clean, adversarial,
    clean): loss and gradient are the same, but their running statistics lean to clean images (with momentum 0.1 a step
    gives them a weight of 0.181, and the adversarial ones 0.09; here 0.09 and 0.1).
    """
    beta, minimised = float(settings["trades_beta"]), label_loss(settings)

    def adversary(model: nn.Module, x: Tensor, y: Tensor, attack: InnerAttack) -> Tensor:
        with torch.no_grad():
            log_clean = F.log_softmax(model(x), dim=1)
        return attack(
            model, x, y, gaussian=True, loss=lambda logits, _: kl_divergence(log_clean, F.log_softmax(logits, dim=1))
        )

    def loss(model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor) -> Tensor:
        logits = model(x)
        robust = kl_divergence(F.log_softmax(logits, dim=1), F.log_softmax(model(x_adv), dim=1))
        return minimised(logits, y) + beta * robust

    return Defense(adversary, loss)


@DEFENSES.register("MART")
def mart(settings: Settings) -> Defense:
    """BCE(p(x_adv), y) + beta KL(p(x) || p(x_adv)) (1 - p_y(x)) (Wang et al., ICLR 2020), where
    BCE = -log p_y - log(1 - max_{k != y} p_k). The 1e-4 inside the last logarithm is the authors'."""
    beta = float(settings["mart_beta"])

    def loss(model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor) -> Tensor:
        log_clean = F.log_softmax(model(x), dim=1)
        log_adv = F.log_softmax(model(x_adv), dim=1)
        label = y[:, None]
        other = log_adv.exp().scatter(1, label, -1.0).amax(dim=1)
        boosted = -log_adv.gather(1, label)[:, 0] - torch.log(1.0001 - other)
        return boosted + beta * kl_divergence(log_clean, log_adv) * (1.0 - log_clean.gather(1, label)[:, 0].exp())

    return Defense(lambda model, x, y, attack: attack(model, x, y, gaussian=True), loss)


@DEFENSES.register("ALP")
def adversarial_logit_pairing(settings: Settings) -> Defense:
    """(CE(f(x), y) + CE(f(x_adv), y)) / 2 + alp_weight ||f(x) - f(x_adv)||_2^2 / K, x_adv as in AT (Kannan, Kurakin,
    Goodfellow, 2018: half of each batch clean, half adversarial, and the mean square of the K logits' differences).

    Clean and adversarial images are separate batches for BatchNorm. The pairing term is 0 where eps is.
    """
    weight, minimised = float(settings["alp_weight"]), label_loss(settings)

    def loss(model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor) -> Tensor:
        clean, adversarial = model(x), model(x_adv)
        pairing = (clean - adversarial).square().mean(dim=1)
        losses: Tensor = (minimised(clean, y) + minimised(adversarial, y)) / 2 + weight * pairing
        return losses

    return Defense(lambda model, x, y, attack: attack(model, x, y), loss)


DEFENSES.load()

"""One step of training: the defense's adversary in eval mode, the loss in train mode, SGD.

Nothing here makes the host wait for the device: it queues the work of the next step while this one is computed.
"""

import torch
from torch import Tensor, nn

from robustgap.training.alignment import misalignment
from robustgap.training.awp import shifted, worst_direction
from robustgap.training.data.batches import TrainingBatch
from robustgap.training.defenses import DEFENSES, InnerAttack
from robustgap.training.modes import evaluating, frozen
from robustgap.training.networks.precision import in_precision
from robustgap.training.sam import highest_nearby, moved
from robustgap.training.settings import NA, Settings, number

ATTACK = 400  # keyed stream; each epoch adds 1000
ALIGN = 50  # added to it: the noise of the gradient alignment penalty


def inner_attack(settings: Settings, index: Tensor, epoch: int, carried: Tensor | None = None) -> InnerAttack:
    """The attack on this batch, according to the settings; its starts change with the epoch."""
    steps = 0 if settings["inner_steps"] == NA else int(settings["inner_steps"])
    return InnerAttack(
        eps=number(settings["eps"]),
        norm=settings["norm"],
        steps=steps,
        seed=int(settings["seed"]),
        stream=1000 * (epoch + 1) + ATTACK,
        index=index,
        carried=carried,
    )


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: TrainingBatch,
    settings: Settings,
    epoch: int,
    perturbation: Tensor | None = None,
) -> Tensor:
    """One SGD step; returns the mean loss, (), whose gradient it took: at w, with AWP at w + v, with SAM at w + e.

    AWP: the optimizer's step, weight decay too, is taken at w + v, and v is subtracted afterwards (the authors' order).
    SAM: the step is taken at w, and BatchNorm statistics come from the first pass, at w. x_adv is made once, at w.

    perturbation: (batch size or more, c, h, w), read and updated in place by a defense that carries one.
    """
    defense, model = DEFENSES[settings["defense"]](settings), in_precision(model, settings["precision"])
    carried = None if perturbation is None else perturbation[: len(batch.y)]
    attack = inner_attack(settings, batch.index, epoch, carried)
    with evaluating(model), frozen(model):
        x_adv = defense.adversary(model, batch.x, batch.y, attack)
    if defense.carry is not None:
        x_adv.requires_grad_()

    def batch_loss() -> Tensor:
        losses: Tensor = defense.loss(model, batch.x, x_adv, batch.y)
        if settings["grad_align"]:
            penalty = misalignment(model, batch.x, batch.y, attack.uniform(batch.x, ALIGN))
            losses = losses + float(settings["grad_align"]) * penalty
        return losses.mean()

    def differentiate() -> Tensor:
        loss = batch_loss()
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        return loss.detach()

    if settings["sam"] == "none":
        v = worst_direction(model, batch_loss, float(settings["awp_gamma"])) if settings["awp"] else []
        with shifted(v):
            loss = differentiate()
            optimizer.step()
    else:
        adaptive = settings["sam"] == "ASAM"
        rho = float(settings["asam_rho" if adaptive else "sam_rho"])
        with moved(model, highest_nearby(model, batch_loss, rho, adaptive=adaptive)):
            loss = differentiate()
        optimizer.step()
    if defense.carry is not None and carried is not None and x_adv.grad is not None:
        carried.copy_(defense.carry(x_adv.grad, attack))
    return loss

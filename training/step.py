"""One step of training: the defense's adversary in eval mode, the loss in train mode (with AWP at w + v), SGD."""

import math

import torch
from torch import Tensor, nn

from training import perturbation
from training.batches import Batch
from training.defenses import DEFENSES, InnerAttack
from training.modes import evaluating, frozen
from training.settings import NA, number

ATTACK = 400  # keyed stream; each epoch adds 1000


class Collapse(Exception):
    """The loss is not finite; the text is the reason."""


def inner_attack(settings: dict, index: Tensor, epoch: int) -> InnerAttack:
    """The attack of this batch, as the settings ask; its starts change with the epoch."""
    steps = 0 if settings["inner_steps"] == NA else int(settings["inner_steps"])
    return InnerAttack(
        number(settings["eps"]), settings["norm"], steps, int(settings["seed"]), 1000 * (epoch + 1) + ATTACK, index
    )


def train_step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch, settings: dict, epoch: int) -> float:
    """One SGD step; returns the mean loss (at w + v with AWP). Raises Collapse when it is not finite."""
    defense = DEFENSES[settings["defense"]](settings)
    with evaluating(model), frozen(model):
        x_adv = defense.adversary(model, batch.x, batch.y, inner_attack(settings, batch.index, epoch))

    def batch_loss() -> Tensor:
        return defense.loss(model, batch.x, x_adv, batch.y).mean()

    v = perturbation.worst_direction(model, batch_loss, float(settings["awp_gamma"])) if settings["awp"] else []
    perturbation.shift(v, +1)
    loss = batch_loss()
    value = loss.item()
    if not math.isfinite(value):
        perturbation.shift(v, -1)
        raise Collapse(f"training loss {value} in epoch {epoch + 1}")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    perturbation.shift(v, -1)
    return value

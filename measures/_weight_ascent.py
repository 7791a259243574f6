"""Gradient ascent on a loss as a function of the weights. No model is modified."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from robustgap.measures._context import Context
from robustgap.measures._weights import Weights, logits_at
from robustgap.measures.core import Missing
from robustgap.training.attacks import Loss


def losses_at(
    model: nn.Module, weights: Weights, images: Sequence[Tensor], labels: Sequence[Tensor], loss: Loss
) -> Tensor:
    """Loss of each image of all batches at `weights`: (n,)."""
    found = [loss(logits_at(model, weights, x), y) for x, y in zip(images, labels, strict=True)]
    return torch.cat(found)


def ascend(
    model: nn.Module,
    weights: Weights,
    images: Sequence[Tensor],
    labels: Sequence[Tensor],
    loss: Loss,
    move_weights: Callable[[int, dict[str, Tensor], Mapping[str, Tensor]], dict[str, Tensor]],
    move_images: Callable[[int, Tensor, Tensor], Tensor] | None,
    steps: int,
    context: Context | None = None,
) -> Tensor:
    """Losses (n,) of all images at the iterate, among start and `steps` steps, where their mean is largest.

    weights  the start of those that move; what the model has besides stays
    images, labels  the batches: the gradient of each step is that of the mean over all of them
    move_weights(step, moved, gradient) -> the next weights; move_images(batch, images, gradient) -> the next images of
    that batch, or None where they stay. Steepest-ascent directions do not depend on the length of the gradient, so
    that of the sum over images may be handed over.
    context  given where the start is the model itself on the images of the context, and the loss its cross-entropy:
    the first step then takes the gradients that are shared.
    Raises Missing where no weights move.
    """
    if not weights:
        raise Missing("the model has no weights that could move")
    images, moved, best = list(images), dict(weights), None
    for step in range(steps):
        total: Mapping[str, Tensor]
        if step == 0 and context is not None:
            total = context.mean_loss_gradient()
            found = [context.losses(batch) for batch in context.batches]
            if move_images is not None:
                slopes = [context.input_gradient(batch) for batch in context.batches]
                images = [move_images(k, x, slope) for k, (x, slope) in enumerate(zip(images, slopes, strict=True))]
        else:
            total, found = {name: torch.zeros_like(weight) for name, weight in moved.items()}, []
            for place, (x, y) in enumerate(zip(images, labels, strict=True)):
                values, gradients, slope = gradients_at(model, moved, x, y, loss, move_images is not None)
                found.append(values)
                for name, gradient in gradients.items():
                    total[name] += gradient
                if move_images is not None:
                    images[place] = move_images(place, x.detach(), slope)
        best = larger(best, torch.cat(found))
        moved = move_weights(step, moved, total)
    return larger(best, losses_at(model, moved, images, labels, loss))


def gradients_at(
    model: nn.Module, weights: Weights, x: Tensor, y: Tensor, loss: Loss, of_images: bool
) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Losses (n,) of images, and the gradient of their sum by the weights and, if asked for, by the images."""
    leaves = {name: weight.detach().requires_grad_(True) for name, weight in weights.items()}
    x = x.detach().requires_grad_(of_images)
    with torch.enable_grad():
        values = loss(logits_at(model, leaves, x), y)
        sought = [*leaves.values(), *([x] if of_images else [])]
        found = torch.autograd.grad(values.sum(), sought, allow_unused=True, materialize_grads=True)
    return values.detach(), dict(zip(leaves, found, strict=False)), found[-1]


def larger(best: Tensor | None, losses: Tensor) -> Tensor:
    """Whichever of two sets of losses (n,) has the larger mean; the first where they tie."""
    return losses if best is None or losses.double().mean() > best.double().mean() else best

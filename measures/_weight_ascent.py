"""Gradient ascent on the loss as a function of the weights. No model is modified."""

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
    return torch.cat([loss(logits_at(model, weights, x), y) for x, y in zip(images, labels, strict=True)])


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
    """Losses (n,) of all images at the iterate with the largest mean loss, among the start and `steps` steps.

    weights  the start of the weights that move; the model's other weights stay
    images, labels  the batches: the gradient of each step is that of the loss over all of them
    move_weights(step, moved, gradient) -> the next weights; move_images(batch number, images, gradient) -> the next
    images of that batch, or None where they stay. They may depend on the direction of the gradient alone, because it is
    that of the mean over images in some steps and of the sum in others.
    context  where the start is the model itself on the images of the context and the loss is the cross-entropy: the
    first step then uses the shared gradients.
    Raises Missing where no weights move.
    """
    if not weights:
        raise Missing("the model has no weights to move")
    images, moved, best = list(images), dict(weights), None
    for step in range(steps):
        total: Mapping[str, Tensor]
        if step == 0 and context is not None:
            total = context.mean_loss_gradient()
            losses = [context.losses(batch) for batch in context.batches]
            if move_images is not None:
                slopes = [context.input_gradient(batch) for batch in context.batches]
                images = [move_images(k, x, slope) for k, (x, slope) in enumerate(zip(images, slopes, strict=True))]
        else:
            total, losses = {name: torch.zeros_like(weight) for name, weight in moved.items()}, []
            for k, (x, y) in enumerate(zip(images, labels, strict=True)):
                values, gradients, slope = gradients_at(model, moved, x, y, loss, move_images is not None)
                losses.append(values)
                for name, gradient in gradients.items():
                    total[name] += gradient
                if move_images is not None:
                    images[k] = move_images(k, x.detach(), slope)
        best = with_larger_mean(best, torch.cat(losses))
        moved = move_weights(step, moved, total)
    return with_larger_mean(best, losses_at(model, moved, images, labels, loss))


def gradients_at(
    model: nn.Module, weights: Weights, x: Tensor, y: Tensor, loss: Loss, of_images: bool
) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Losses (n,) of images, and the gradients of their sum: of the weights, by name, and last that of the images if
    `of_images`."""
    leaves = {name: weight.detach().requires_grad_(True) for name, weight in weights.items()}
    x = x.detach().requires_grad_(of_images)
    with torch.enable_grad():
        values = loss(logits_at(model, leaves, x), y)
        variables = [*leaves.values(), *([x] if of_images else [])]
        gradients = torch.autograd.grad(values.sum(), variables, allow_unused=True, materialize_grads=True)
    return values.detach(), dict(zip(leaves, gradients, strict=False)), gradients[-1]


def with_larger_mean(best: Tensor | None, losses: Tensor) -> Tensor:
    """The one of two sets of losses (n,) with the larger mean; the first in a tie."""
    return losses if best is None or losses.double().mean() > best.double().mean() else best

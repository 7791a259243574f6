"""Gradient alignment, a penalty that keeps one-step adversarial training from overfitting catastrophically."""

import torch
from torch import Tensor, nn

from robustgap.training.attacks import cross_entropy, flat_norm
from robustgap.training.modes import evaluating


def misalignment(model: nn.Module, x: Tensor, y: Tensor, noise: Tensor) -> Tensor:
    """1 - cos(grad_x CE(f(x), y), grad_x CE(f(x + noise), y)) of each example: (n,), 0 where a gradient vanishes
    (GradAlign, Andriushchenko and Flammarion, NeurIPS 2020; there the noise is uniform in the ball).

    x (n, c, h, w), noise of that shape; x + noise is clipped to [0, 1]. Differentiable in the weights, through both
    gradients, as in the paper's formula (the authors' code for FGSM holds the first one fixed). In eval mode, like the
    attack whose step the penalty makes exact: BatchNorm uses its running statistics and does not update them. A
    training pass updates them in place, so none may come between this and its backward pass.
    """
    gradients = []
    with evaluating(model), torch.enable_grad():
        for point in (x, (x + noise).clamp(0.0, 1.0)):
            point = point.detach().requires_grad_()
            loss = cross_entropy(model(point), y).sum()
            gradients.append(torch.autograd.grad(loss, point, create_graph=True)[0])
    there = torch.stack([flat_norm(gradient) for gradient in gradients]).amin(dim=0).detach() > 0
    # a gradient of 0 is replaced by ones: the derivative of 0 / 0 would be NaN, whatever is selected afterwards
    first, second = (torch.where(there, gradient, 1.0) for gradient in gradients)
    cosine = (first / flat_norm(first) * (second / flat_norm(second))).flatten(1).sum(dim=1)
    return torch.where(there.flatten(), 1 - cosine, 0.0)

"""Derivatives of the loss with respect to the weights, along directions. No model is modified."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from robustgap.measures._weights import Weights, losses
from robustgap.measures.core import Batch


@contextmanager
def differentiable() -> Iterator[None]:
    """Gradients are recorded, and attention runs unfused: its fused kernels have no second derivative."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def derivative(model: nn.Module, weights: Weights, direction: Mapping[str, Tensor], batch: Batch) -> Tensor:
    """d/dt CE(f_{w + t v}(x_i), y_i) at t = 0, which is <v, grad_w CE_i>, for each image i: (n,).

    sum_i u_i CE_i is differentiated with respect to t, and the result, which is linear in u, with respect to u: two
    reverse passes and no gradient of a single image. (The forward-mode derivative of LayerNorm is wrong in torch 2.13.)
    """
    with differentiable():
        like = batch.images
        t = torch.zeros((), dtype=like.dtype, device=like.device, requires_grad=True)
        u = torch.ones(len(like), dtype=like.dtype, device=like.device, requires_grad=True)
        moved = {name: weight + t * direction[name] for name, weight in weights.items()}
        total = (u * losses(model, moved, like, batch.labels)).sum()
        (slope,) = torch.autograd.grad(total, t, create_graph=True)
        return torch.autograd.grad(slope, u)[0]


@dataclass(frozen=True)
class Hessian:
    """Products with the Hessian of the summed loss of some images; all share one graph of the gradient."""

    leaves: dict[str, Tensor]
    gradient: dict[str, Tensor]

    def times(self, vector: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """H v, where v has an entry for each weight."""
        with differentiable():
            slope = torch.stack([(g * vector[name]).sum() for name, g in self.gradient.items()]).sum()
            leaves = list(self.leaves.values())
            products = torch.autograd.grad(slope, leaves, retain_graph=True, materialize_grads=True)
        return dict(zip(self.leaves, products, strict=True))


def hessian(model: nn.Module, weights: Weights, images: Tensor, labels: Tensor) -> Hessian:
    """The Hessian of sum_i CE(f_w(x_i), y_i) with respect to the weights, by autograd: kinks of ReLU count as flat."""
    leaves = {name: weight.detach().requires_grad_(True) for name, weight in weights.items()}
    with differentiable():
        loss = losses(model, leaves, images, labels).sum()
        gradient = torch.autograd.grad(loss, list(leaves.values()), create_graph=True, materialize_grads=True)
    return Hessian(leaves, dict(zip(leaves, gradient, strict=True)))

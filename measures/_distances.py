"""First-order distances to the decision boundary: gradients of differences of logits, and their norms."""

import torch
from torch import Tensor, nn

from robustgap.measures._context import Context
from robustgap.measures.core import Batch

RIVALS = 9  # other classes that a linearised distance considers, those of largest logit: all of them up to 10 classes


def over_largest(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Each vector divided by its largest absolute entry, so that squares do not underflow, and that entry.

    (n, ...) -> (n, ...), (n,); a zero vector stays zero.
    """
    largest = vectors.flatten(1).abs().amax(dim=1)
    divisor = largest.clamp_min(torch.finfo(vectors.dtype).tiny)
    return vectors / divisor.reshape(-1, *[1] * (vectors.dim() - 1)), divisor


def l2_norm(vectors: Tensor) -> Tensor:
    """||v||_2 of each vector, however small or large: (n, ...) -> (n,)."""
    scaled, largest = over_largest(vectors)
    norms: Tensor = scaled.flatten(1).norm(dim=1)
    return largest * norms


def dual_norm(gradient: Tensor, norm: str) -> Tensor:
    """Rise of a linear function over the unit ball of `norm`: ||g||_1 for Linf, ||g||_2 for L2; (n, ...) -> (n,)."""
    return gradient.flatten(1).abs().sum(dim=1) if norm == "Linf" else l2_norm(gradient)


def rival_leads(model: nn.Module, x: Tensor, labels: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """f_k - f_y for the `count` classes k != y of largest logit, its gradients, and k: (n, r), (n, r, ...), (n, r).

    One forward pass and r backward passes, r = min(count, classes - 1).
    """
    with torch.enable_grad():
        point = x.detach().requires_grad_(True)
        logits = model(point)
        others = logits.detach().scatter(1, labels[:, None], -torch.inf)
        rivals = others.topk(min(count, logits.shape[1] - 1), dim=1).indices
        leads = logits.gather(1, rivals) - logits.gather(1, labels[:, None])
        gradients = [torch.autograd.grad(column.sum(), point, retain_graph=True)[0] for column in leads.unbind(dim=1)]
    return leads.detach(), torch.stack(gradients, dim=1), rivals


def linearised(model: nn.Module, batch: Batch, context: Context) -> tuple[Tensor, Tensor]:
    """Distance of each image from the nearest boundary of the linearised model, and the class beyond it: (n,), (n,).

        min_k (f_y - f_k)(x_i) / || grad (f_y - f_k)(x_i) ||_q  over the RIVALS classes k != y_i of largest logit

    0 for a misclassified image. Computed once for all measures that use it.
    """
    pairs = context.of_batch("linearised", batch, lambda: _linearised(model, batch))
    return pairs[:, 0], pairs[:, 1].long()


def _linearised(model: nn.Module, batch: Batch) -> Tensor:
    """Distance and class of each image, (n, 2)."""
    leads, gradients, classes = rival_leads(model, batch.images, batch.labels, RIVALS)
    slopes = dual_norm(gradients.flatten(0, 1), batch.norm).reshape(leads.shape)
    distance, nearest = (-leads / slopes).min(dim=1)
    distance = distance.masked_fill((leads > 0).any(dim=1), 0.0)
    return torch.stack([distance, classes.gather(1, nearest[:, None])[:, 0].to(leads)], dim=1)

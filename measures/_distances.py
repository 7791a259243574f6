"""First-order distances in the input: gradients of differences of logits, and the norms that measure them."""

import torch
from torch import Tensor, nn

from robustgap.measures._context import Context
from robustgap.measures.core import Batch

RIVALS = 9  # other classes that a linearised distance looks at, those of largest logit: all of them up to 10 classes


def scaled(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Each vector over its largest entry, so that squares of tiny numbers do not vanish, and that entry's size.

    (n, ...) -> (n, ...), (n,); a vector of zeros stays one.
    """
    largest = vectors.flatten(1).abs().amax(dim=1)
    divisor = largest.clamp_min(torch.finfo(vectors.dtype).tiny)
    return vectors / divisor.reshape(-1, *[1] * (vectors.dim() - 1)), divisor


def length(vectors: Tensor) -> Tensor:
    """||v||_2 of each vector, however small or large: (n, ...) -> (n,)."""
    unit, largest = scaled(vectors)
    return largest * unit.flatten(1).norm(dim=1)


def dual_norm(gradient: Tensor, norm: str) -> Tensor:
    """Rise of a linear function over the unit ball of `norm`: ||g||_1 for Linf, ||g||_2 for L2; (n, ...) -> (n,)."""
    return gradient.flatten(1).abs().sum(dim=1) if norm == "Linf" else length(gradient)


def rivals(model: nn.Module, x: Tensor, labels: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """f_k - f_y of the `count` classes k != y of largest logit, its gradients, and k: (n, r), (n, r, ...), (n, r).

    One forward pass and r backward passes, r = min(count, classes - 1).
    """
    with torch.enable_grad():
        point = x.detach().requires_grad_(True)
        logits = model(point)
        others = logits.detach().scatter(1, labels[:, None], -torch.inf)
        nearest = others.topk(min(count, logits.shape[1] - 1), dim=1).indices
        lead = logits.gather(1, nearest) - logits.gather(1, labels[:, None])
        gradients = [torch.autograd.grad(column.sum(), point, retain_graph=True)[0] for column in lead.unbind(dim=1)]
    return lead.detach(), torch.stack(gradients, dim=1), nearest


def linearised(model: nn.Module, batch: Batch, context: Context) -> tuple[Tensor, Tensor]:
    """Distance of each image from the nearest boundary of the linearised model, and the class beyond it: (n,), (n,).

        min_k (f_y - f_k)(x_i) / || grad (f_y - f_k)(x_i) ||_q  over the RIVALS classes k != y_i of largest logit

    0 for a misclassified image. Computed once for all who ask.
    """
    found = context.of_batch("linearised", batch, lambda: _linearised(model, batch))
    return found[:, 0], found[:, 1].long()


def _linearised(model: nn.Module, batch: Batch) -> Tensor:
    """The two numbers of each image, (n, 2)."""
    lead, gradients, classes = rivals(model, batch.images, batch.labels, RIVALS)
    slopes = dual_norm(gradients.flatten(0, 1), batch.norm).reshape(lead.shape)
    nearest, place = (-lead / slopes).min(dim=1)
    wrong = (lead > 0).any(dim=1)
    return torch.stack([nearest.masked_fill(wrong, 0.0), classes.gather(1, place[:, None])[:, 0].to(lead)], dim=1)
